# Copyright (c) mvp_mm authors. All rights reserved.
"""Holds an instruction to the model as segments of text (paper section 3.2)."""
from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np


class SegmentKind(str, Enum):
    """Role of a piece of the LLM's input sequence."""

    TEXT = 'text'
    IMAGE = 'image'
    PHRASE = 'phrase'
    RESPONSE = 'response'
    PER = 'per'
    EOS = 'eos'

    def __reduce_ex__(self, protocol: object) -> tuple:
        # Python 3.11.0 to 3.11.3 pickle members by getattr, which no safe reader calls.
        return type(self), (self.value, )


@dataclass(frozen=True)
class Segment:
    """One piece of the input sequence.

    Attributes:
        kind: Its role. ``IMAGE`` stands for the visual tokens, ``PER`` for the summary token.
        text: The text of a ``TEXT``, ``PHRASE`` or ``RESPONSE`` segment.
    """

    kind: SegmentKind
    text: str = ''


@dataclass
class Instruction:
    """One question about one image, with the answer's text when it is known.

    The tokens are filled in by an instruction tokenizer; T counts every position, the V visual
    ones included.

    Attributes:
        task: Name of the task that made it.
        kind: ``'word'`` (a phrase list), ``'sentence'`` (one expression) or ``'caption'``.
        prompt: Segments up to the response.
        response: Segments of the response, ``<PER>`` included; what the LLM learns to write.
        phrases: The K phrases, in the order of the prompt's phrase segments.
        is_thing: (K,) bool, whether a phrase names countable things.
        undecided: (K,) bool, phrases of which nobody said whether they are things or stuff:
            decoding decides by the queries that find them, and ``is_thing`` is True. None where
            all are known.
        use_stuff_queries: Whether the learnable stuff queries take part.
        input_ids: (T,) int64 token ids, the image placeholder repeated V times.
        phrase_index: (T,) int64, index of the phrase a token belongs to, -1 outside.
        labels: (T,) int64, the token to predict *at* this position, -100 outside the response.
        prompt_length: Tokens before the response.
        image_start: Position of the first of the V visual tokens, which are contiguous; -1 where
            the prompt has no image.
        classes: (P,) int64 ascending, where the prompt's P phrase segments are several names of
            some phrases: the phrase that each names. A phrase is as likely as its best name. None
            where there is one segment per phrase, in order.
        parts: Where the LLM is asked in parts, these; the token fields are then theirs alone.
    """

    task: str
    kind: str
    prompt: list[Segment]
    response: list[Segment]
    phrases: list[str] = field(default_factory=list)
    is_thing: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    use_stuff_queries: bool = False
    input_ids: np.ndarray | None = None
    phrase_index: np.ndarray | None = None
    labels: np.ndarray | None = None
    prompt_length: int = 0
    image_start: int = -1
    classes: np.ndarray | None = None
    parts: list[VocabularyPart] = field(default_factory=list)
    undecided: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.kind not in ('word', 'sentence', 'caption'):
            raise ValueError(
                f'Instruction kind must be word, sentence or caption, got {self.kind!r}')
        named = [s.kind for s in self.prompt].count(SegmentKind.PHRASE)
        asked = len(self.phrases) if self.classes is None else len(self.classes)
        if named != asked or len(self.phrases) != len(self.is_thing):
            raise ValueError(
                f'Task {self.task}: {named} phrase segments for {asked} names, '
                f'{len(self.phrases)} phrases and {len(self.is_thing)} thing flags must agree')
        if self.undecided is not None and len(self.undecided) != len(self.phrases):
            raise ValueError(f'Task {self.task}: {len(self.undecided)} undecided flags for '
                             f'{len(self.phrases)} phrases')
        if self.classes is not None and np.unique(self.classes).tolist() != list(
                range(len(self.phrases))):
            raise ValueError(f'Task {self.task}: not every phrase has a name of its own')

    @property
    def needs_decoder(self) -> bool:
        """Whether the decoder answers, not the LLM alone."""
        return self.kind != 'caption'


@dataclass
class VocabularyPart:
    """Some names of a word list, asked in one run of the LLM.

    Attributes:
        instruction: Asks them; tokenised.
        classes: (P,) int64, the phrase of the whole list that each of its P phrases stands for.
    """

    instruction: Instruction
    classes: np.ndarray
