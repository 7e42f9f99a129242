# Copyright (c) mvp_mm authors. All rights reserved.
"""Word lists beyond the LLM's context: asked in parts, scored together."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mvp_mm.models.heads import SimilarityHead, TextEmbeddings
from mvp_mm.models.perception import DecodedQueries
from mvp_mm.structures import Instruction, PerceptionDataSample, RawPrediction, VocabularyPart


@dataclass
class AskedRow:
    """One run of the LLM: what :class:`InstructionBatch` reads of a sample.

    Attributes:
        instruction: Tokenised.
        image_index: Row of its image in the batch.
    """

    instruction: Instruction
    image_index: int


class AskedRows:
    """The runs of the LLM that some samples need: one each, or one a part of a long word list.

    Args:
        samples: Data samples with ``instruction`` and ``image_index``.

    Attributes:
        rows: The runs, in the order of the samples.
        first: The first row of each sample.
    """

    def __init__(self, samples: Sequence[PerceptionDataSample]) -> None:
        self.instructions = [sample.instruction for sample in samples]
        self.rows: list[AskedRow] = []
        self.first: list[int] = []
        for sample, instruction in zip(samples, self.instructions, strict=True):
            self.first.append(len(self.rows))
            parts = [part.instruction for part in instruction.parts] or [instruction]
            self.rows += [AskedRow(part, int(sample.image_index)) for part in parts]

    def raw_predictions(self, found: DecodedQueries, head: SimilarityHead,
                        num_dynamic: int) -> list[RawPrediction]:
        """The raw prediction of each sample, without its caption.

        Args:
            found: The decoded queries of the rows.
            head: Compares queries with phrases.
            num_dynamic: Dynamic queries N of a row; the others are stuff queries.
        """
        logits = head(found.states, found.boxes, found.text)
        return [
            _joint_prediction(instruction, first, found, head, num_dynamic)
            if instruction.parts else
            _prediction(instruction, logits[first], first, found, num_dynamic)
            for instruction, first in zip(self.instructions, self.first, strict=True)]


def _prediction(instruction: Instruction, logits: Tensor, row: int, found: DecodedQueries,
                num_dynamic: int) -> RawPrediction:
    """One row's logits (Q, K' + 1) without the batch's padding: other rows' queries and phrases."""
    queries = len(logits) if instruction.use_stuff_queries else num_dynamic
    logits = logits[:queries]
    if instruction.kind == 'word':
        logits = torch.cat([logits[:, :len(instruction.phrases)], logits[:, -1:]], 1)
    else:
        logits = logits[:, 0]
    return RawPrediction(logits, found.boxes[row, :queries], found.masks[row, :queries],
                         num_dynamic)


def _joint_prediction(instruction: Instruction, first: int, found: DecodedQueries,
                      head: SimilarityHead, num_dynamic: int) -> RawPrediction:
    """The queries of all parts, each compared with the names of all parts.

    So every probability is over the whole list. A query answers for the phrases of its own part
    only: an object attracts queries in several parts, and all of them know its name. What the
    other parts' phrases take of its probability goes to "no object".
    """
    parts = instruction.parts
    rows = slice(first, first + len(parts))
    with_stuff = instruction.use_stuff_queries

    def together(values: Tensor) -> Tensor:
        """(n, Q, …) to (n·Q, …): the dynamic queries of all parts, then their stuff queries."""
        dynamic, stuff = values[:, :num_dynamic], values[:, num_dynamic:]
        joined = dynamic.flatten(0, 1)
        return torch.cat([joined, stuff.flatten(0, 1)]) if with_stuff else joined

    boxes = together(found.boxes[rows])
    text = _joint_text(found.text, first, parts)
    logits = head(together(found.states[rows])[None], boxes[None], text)[0]
    owner = torch.arange(len(parts), device=boxes.device)[:, None]
    owner = owner.expand(-1, found.boxes.shape[1])
    logits = _answer_for_own(logits, together(owner), instruction, num_dynamic * len(parts))
    return RawPrediction(logits, boxes, together(found.masks[rows]), num_dynamic * len(parts))


def _joint_text(text: TextEmbeddings, first: int, parts: list[VocabularyPart]) -> TextEmbeddings:
    """The names of all parts as the list of one row."""
    def join(values: Tensor | None) -> Tensor | None:
        if values is None:
            return None
        return torch.cat([values[first + k, :len(p.classes)] for k, p in enumerate(parts)])[None]

    return TextEmbeddings(join(text.content), join(text.relation), join(text.mask),
                          text.is_word[first:first + 1])


def _answer_for_own(logits: Tensor, owner: Tensor, instruction: Instruction,
                    num_dynamic: int) -> Tensor:
    """Logits of K phrases from those of P names, each query answering for its part's phrases.

    Args:
        logits: (q, P + 1) of the names of all parts and of "no object".
        owner: (q,) the part of each query.
        instruction: The whole list.
        num_dynamic: Queries from here on are stuff queries.

    Returns:
        (q, K + 1); a softmax over it gives what a softmax over all names' phrases gives.
    """
    parts, device = instruction.parts, logits.device
    classes = torch.from_numpy(np.concatenate([p.classes for p in parts])).to(device)
    part_of = torch.from_numpy(np.repeat(np.arange(len(parts)), [len(p.classes) for p in parts]))
    shape = (len(logits), len(instruction.phrases))
    best = logits.new_full(shape, float('-inf')).scatter_reduce(
        1, classes.expand(len(logits), -1), logits[:, :-1], 'amax')
    phrase_part = torch.zeros(shape[1], dtype=torch.long, device=device)
    phrase_part[classes] = part_of.to(device)
    others = owner[:, None] != phrase_part
    counted = others
    if instruction.use_stuff_queries:
        # As in decoding, dynamic queries compare things alone and stuff queries stuff alone.
        is_thing = torch.from_numpy(instruction.is_thing).to(device)
        dynamic = torch.arange(len(logits), device=device) < num_dynamic
        counted = others & (dynamic[:, None] == is_thing)
    elsewhere = best.masked_fill(~counted, float('-inf'))
    nothing = torch.cat([elsewhere, logits[:, -1:]], 1).logsumexp(1, keepdim=True)
    return torch.cat([best.masked_fill(others, torch.finfo(best.dtype).min), nothing], 1)
