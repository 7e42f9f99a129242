# Copyright (c) mvp_mm authors. All rights reserved.
"""Counts what the phrases of a word list take of the LLM's context."""
from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mvp_mm.structures import Segment, SegmentKind
from mvp_mm.tokenization.instruction_tokenizer import InstructionTokenizer


class WordList:
    """A word list's prompt, taken apart into its phrases and what stands around them.

    Args:
        prompt: Segments of the prompt; has a phrase.
        tokenizer: Counts tokens and knows the limit.

    Attributes:
        costs: (P,) int64, tokens of each phrase and the separator behind it.
        separator_cost: Tokens of the separator alone, 0 for a single phrase.
    """

    def __init__(self, prompt: list[Segment], tokenizer: InstructionTokenizer) -> None:
        places = [i for i, segment in enumerate(prompt) if segment.kind is SegmentKind.PHRASE]
        self.phrases = [prompt[place] for place in places]
        self._head, self._tail = prompt[:places[0]], prompt[places[-1] + 1:]
        self._separator = prompt[places[0] + 1:places[1]] if len(places) > 1 else []
        self._limit = tokenizer.max_length
        self._around = tokenizer.length_of([*self._head, *self._tail])
        self.separator_cost = tokenizer.length_of(self._separator)
        self.costs = self.separator_cost + np.array(
            [tokenizer.length_of([phrase]) for phrase in self.phrases])

    def room(self, response: int) -> int:
        """Largest sum of ``costs`` that fits beside a response of so many tokens."""
        # The last phrase of a list has no separator behind it.
        return self._limit - response - self._around + self.separator_cost

    def prompt_of(self, chosen: Iterable[int]) -> list[Segment]:
        """The prompt with some of the phrases only, in the order given."""
        segments = list(self._head)
        for number, index in enumerate(chosen):
            segments += [*(self._separator if number else []), self.phrases[index]]
        return segments + self._tail


def deal(costs: np.ndarray, room: int) -> np.ndarray:
    """Deal costs to groups in order; a new group begins wherever the room is used up.

    Args:
        costs: (n,), none above ``room``.
        room: Largest sum of a group.

    Returns:
        (n,) int64, ascending, the group of each.
    """
    group = np.zeros(len(costs), dtype=np.int64)
    used, number = 0, 0
    for index, cost in enumerate(costs.tolist()):
        if used + cost > room:
            used, number = 0, number + 1
        group[index] = number
        used += cost
    return group
