# Copyright (c) mvp_mm authors. All rights reserved.
"""Word lists that fit the LLM's context: absent names give way, present ones never do."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from mvp_mm.structures import Request, Segment, SegmentKind
from mvp_mm.tokenization.instruction_tokenizer import InstructionTokenizer


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
    places = _phrase_positions(instruction.prompt)
    separator = tokenizer.length_of(_separator(instruction.prompt, places))
    costs = separator + np.array(
        [tokenizer.length_of([instruction.prompt[index]]) for index in places])
    # The last phrase of a list has no separator behind it.
    room = tokenizer.max_length - total + int(costs.sum())
    wanted = np.unique(request.labels)
    needed = costs[wanted].max() if len(wanted) else costs.min()
    if needed > room:
        raise ValueError(
            f'Task {instruction.task}: prompt, image and response take '
            f'{total - costs.sum() + separator} tokens of max_length={tokenizer.max_length}, '
            f'which leaves no room for a phrase of {needed - separator} tokens')
    groups = _deal(wanted, costs, room)
    if len(groups) == 1:
        groups[0] = _fill(groups[0], costs, room)
    return [_keep(request, group, places) for group in groups]


def _phrase_positions(prompt: list[Segment]) -> list[int]:
    """Where the prompt's phrases stand."""
    return [i for i, segment in enumerate(prompt) if segment.kind == SegmentKind.PHRASE]


def _separator(prompt: list[Segment], places: list[int]) -> list[Segment]:
    """What stands between two phrases."""
    return prompt[places[0] + 1:places[1]] if len(places) > 1 else []


def _deal(wanted: np.ndarray, costs: np.ndarray, room: int) -> list[np.ndarray]:
    """The phrases that must stay, in order, in as many groups as their tokens need."""
    groups: list[list[int]] = [[]]
    used = 0
    for phrase in wanted.tolist():
        if used + costs[phrase] > room:
            groups.append([])
            used = 0
        groups[-1].append(phrase)
        used += costs[phrase]
    return [np.array(group, dtype=np.int64) for group in groups]


def _fill(group: np.ndarray, costs: np.ndarray, room: int) -> np.ndarray:
    """The group and, as far as there is room, the phrases without targets, in the list's order."""
    kept = np.zeros(len(costs), dtype=bool)
    kept[group] = True
    absent = np.flatnonzero(~kept)
    spent = costs[absent].cumsum() + costs[group].sum()
    kept[absent[spent <= room]] = True
    return np.flatnonzero(kept)


def _keep(request: Request, phrases: np.ndarray, places: list[int]) -> Request:
    """The request about some of its phrases and their targets."""
    instruction = request.instruction
    prompt = instruction.prompt
    shorter = prompt[:places[0]]
    for number, phrase in enumerate(phrases):
        if number:
            shorter = shorter + _separator(prompt, places)
        shorter = [*shorter, prompt[places[phrase]]]
    position = np.full(len(instruction.phrases), -1, dtype=np.int64)
    position[phrases] = np.arange(len(phrases))
    labels = position[request.labels]
    return replace(
        request,
        instruction=replace(
            instruction, prompt=shorter + prompt[places[-1] + 1:],
            phrases=[instruction.phrases[index] for index in phrases],
            is_thing=instruction.is_thing[phrases]),
        targets=request.targets[labels >= 0],
        labels=labels[labels >= 0])
