# Copyright (c) mvp_mm authors. All rights reserved.
"""Shortens training word lists to the LLM's context: absent names go, present ones stay."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from mvp_mm.structures import Request
from mvp_mm.tokenization.instruction_tokenizer import InstructionTokenizer
from mvp_mm.tokenization.word_list import WordList, deal


def fit_word_list(request: Request, tokenizer: InstructionTokenizer) -> list[Request]:
    """Shorten or split a training list until its tokens fit.

    Phrases without a target go first, from the end of the list, which is in random order in
    training. If the phrases that must stay are too many by themselves, they are dealt to several
    requests, each with the targets of its own phrases: every list is still true, for an answer
    is asked only about the names that it holds.

    Args:
        request: A request of kind ``'word'``; it is not changed.
        tokenizer: Counts tokens and knows the limit.

    Returns:
        The request itself where it fits, else shorter ones that hold every target exactly once.

    Raises:
        ValueError: If a single phrase does not fit beside prompt, image and response.
    """
    instruction = request.instruction
    total = tokenizer.length_of([*instruction.prompt, *instruction.response])
    if total <= tokenizer.max_length:
        return [request]
    words = WordList(instruction.prompt, tokenizer)
    room = words.room(tokenizer.length_of(instruction.response))
    wanted = np.unique(request.labels)
    needed = words.costs[wanted].max() if len(wanted) else words.costs.min()
    if needed > room:
        raise ValueError(
            f'Task {instruction.task}: prompt, image and response take '
            f'{tokenizer.max_length - room + words.separator_cost} tokens of '
            f'max_length={tokenizer.max_length}, which leaves no room for a phrase of '
            f'{needed - words.separator_cost} tokens')
    group = deal(words.costs[wanted], room)
    groups = [wanted[group == number] for number in range(group.max(initial=0) + 1)]
    if len(groups) == 1:
        groups[0] = _fill(groups[0], words.costs, room)
    return [_keep(request, phrases, words) for phrases in groups]


def _fill(group: np.ndarray, costs: np.ndarray, room: int) -> np.ndarray:
    """The group and, as far as there is room, the phrases without targets, in the list's order."""
    kept = np.zeros(len(costs), dtype=bool)
    kept[group] = True
    absent = np.flatnonzero(~kept)
    spent = costs[absent].cumsum() + costs[group].sum()
    kept[absent[spent <= room]] = True
    return np.flatnonzero(kept)


def _keep(request: Request, phrases: np.ndarray, words: WordList) -> Request:
    """The request about some of its phrases and their targets."""
    instruction = request.instruction
    position = np.full(len(instruction.phrases), -1, dtype=np.int64)
    position[phrases] = np.arange(len(phrases))
    labels = position[request.labels]
    return replace(
        request,
        instruction=replace(
            instruction, prompt=words.prompt_of(phrases),
            phrases=[instruction.phrases[index] for index in phrases],
            is_thing=instruction.is_thing[phrases]),
        targets=request.targets[labels >= 0],
        labels=labels[labels >= 0])
