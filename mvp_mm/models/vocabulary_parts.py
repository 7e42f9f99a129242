# Copyright (c) mvp_mm authors. All rights reserved.
"""Asks word lists beyond the LLM's context in parts and scores them together."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mvp_mm.models.heads import DecodedQueries, SimilarityHead, TextEmbeddings
from mvp_mm.structures import Instruction, PerceptionDataSample, RawPrediction, VocabularyPart


@dataclass
class LLMRow:
    """One row of the LLM's batch: what :class:`InstructionBatch` reads of a sample.

    Attributes:
        instruction: Tokenised.
        image_index: Row of its image in the batch.
    """

    instruction: Instruction
    image_index: int


class LLMRows:
    """Maps samples to rows of the LLM's batch.

    A word list longer than the context takes several, one per part.

    Args:
        samples: Data samples with ``instruction`` and ``image_index``.

    Attributes:
        rows: The rows, in the order of the samples.
        first: The first row of each sample.
    """

    def __init__(self, samples: Sequence[PerceptionDataSample]) -> None:
        self.instructions = [sample.instruction for sample in samples]
        self.rows: list[LLMRow] = []
        self.first: list[int] = []
        for sample, instruction in zip(samples, self.instructions, strict=True):
            self.first.append(len(self.rows))
            parts = [part.instruction for part in instruction.parts] or [instruction]
            self.rows += [LLMRow(part, int(sample.image_index)) for part in parts]

    def raw_predictions(self, found: DecodedQueries, head: SimilarityHead,
                        num_dynamic: int) -> list[RawPrediction]:
        """Join the rows to one raw prediction per sample, without its caption.

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

    So every probability is over the whole list. A dynamic query answers for the phrases of its
    own part only: an object attracts queries in several parts, and all of them know its name.
    What the other parts' phrases take of its probability goes to "no object". Stuff queries are
    the same in every part: those of the first answer for the whole list.
    """
    parts = instruction.parts
    rows = slice(first, first + len(parts))

    def together(values: Tensor) -> Tensor:
        """(n, Q, …) to (q, …): the dynamic queries of all parts, then the first's stuff queries."""
        dynamic = values[rows, :num_dynamic].flatten(0, 1)
        stuff = values[first, num_dynamic:]
        return torch.cat([dynamic, stuff]) if instruction.use_stuff_queries else dynamic

    boxes = together(found.boxes)
    text = _joint_text(found.text, first, parts)
    logits = head(together(found.states)[None], boxes[None], text)[0]
    owner = torch.arange(len(parts), device=boxes.device).repeat_interleave(num_dynamic)
    logits = _answers(logits, owner, instruction)
    return RawPrediction(logits, boxes, together(found.masks), len(owner))


def _joint_text(text: TextEmbeddings, first: int, parts: list[VocabularyPart]) -> TextEmbeddings:
    """The names of all parts as the list of one row."""
    def join(values: Tensor | None) -> Tensor | None:
        if values is None:
            return None
        return torch.cat([values[first + k, :len(p.classes)] for k, p in enumerate(parts)])[None]

    return TextEmbeddings(join(text.content), join(text.relation), join(text.mask),
                          text.is_word[first:first + 1])


def _answers(logits: Tensor, owner: Tensor, instruction: Instruction) -> Tensor:
    """Logits of K phrases from those of P names, where a dynamic query answers for its part's.

    Args:
        logits: (q, P + 1) of the names of all parts and of "no object".
        owner: (N',) the part of each dynamic query; the other queries are stuff queries.
        instruction: The whole list.

    Returns:
        (q, K + 1); a softmax over it gives what a softmax over the names' phrases gives.
    """
    parts, device = instruction.parts, logits.device
    count, dynamic = len(instruction.phrases), len(owner)
    classes = torch.from_numpy(np.concatenate([p.classes for p in parts])).to(device)
    best = logits.new_full((len(logits), count), float('-inf')).scatter_reduce(
        1, classes.expand(len(logits), -1), logits[:, :-1], 'amax')
    part_of = np.zeros(count, dtype=np.int64)
    for number, part in enumerate(parts):
        part_of[part.classes] = number
    others = owner[:, None] != torch.from_numpy(part_of).to(device)
    elsewhere = best[:dynamic].masked_fill(~others, float('-inf'))
    nothing = logits[:, -1:].clone()
    nothing[:dynamic] = torch.cat([elsewhere, nothing[:dynamic]], 1).logsumexp(1, keepdim=True)
    best[:dynamic] = best[:dynamic].masked_fill(others, torch.finfo(best.dtype).min)
    return torch.cat([best, nothing], 1)
