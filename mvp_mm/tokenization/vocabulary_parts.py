# Copyright (c) mvp_mm authors. All rights reserved.
"""Word lists beyond the LLM's context, asked in parts that are scored together."""
from __future__ import annotations

import numpy as np

from mvp_mm.structures import Instruction, SegmentKind, VocabularyPart
from mvp_mm.tokenization.instruction_tokenizer import InstructionTokenizer, TooLongError


def tokenize_in_parts(instruction: Instruction, tokenizer: InstructionTokenizer,
                      response_room: int = 0) -> None:
    """Tokenise a question as a whole, or as a word list in parts.

    A word list is asked in parts where it does not fit, or where some phrases have several names
    (``classes``). The names keep their order, each part takes as many as fit, and the names of
    one phrase stay together.

    Args:
        instruction: Without a response. Either its token fields or its ``parts`` are set.
        tokenizer: Counts tokens and knows the limit.
        response_room: Tokens that must be left for the response.

    Raises:
        TooLongError: If a question of another kind, or a single phrase, does not fit.
    """
    whole = instruction.kind != 'word'
    if not whole and instruction.classes is None:
        length = tokenizer.length_of(instruction.prompt) + response_room
        whole = length <= tokenizer.max_length
    if whole:
        tokenizer.tokenize(instruction)
    else:
        instruction.parts = _split(instruction, tokenizer, response_room)


def _split(instruction: Instruction, tokenizer: InstructionTokenizer,
           response_room: int) -> list[VocabularyPart]:
    prompt = instruction.prompt
    places = [i for i, segment in enumerate(prompt) if segment.kind is SegmentKind.PHRASE]
    head, tail = prompt[:places[0]], prompt[places[-1] + 1:]
    separator = prompt[places[0] + 1:places[1]] if len(places) > 1 else []
    classes = np.arange(len(places)) if instruction.classes is None else instruction.classes
    between = tokenizer.length_of(separator)
    costs = np.bincount(
        classes, [between + tokenizer.length_of([prompt[place]]) for place in places])
    # The last name of a part has no separator behind it.
    room = tokenizer.max_length - response_room - tokenizer.length_of(head + tail) + between
    if costs.max() > room:
        longest = instruction.phrases[int(costs.argmax())]
        raise TooLongError(
            f'Task {instruction.task}: {longest!r} takes {int(costs.max() - between)} tokens, but '
            f'beside the prompt, the image and {response_room} tokens of response there is room '
            f'for {room - between} of max_length={tokenizer.max_length}')
    group = _deal(costs, room)[classes]
    parts = []
    for number in range(group[-1] + 1):
        chosen = np.flatnonzero(group == number)
        segments = list(head)
        for position, index in enumerate(chosen):
            segments += [*(separator if position else []), prompt[places[index]]]
        part = Instruction(
            task=instruction.task, kind=instruction.kind, prompt=segments + tail, response=[],
            phrases=[prompt[places[index]].text for index in chosen],
            is_thing=instruction.is_thing[classes[chosen]],
            use_stuff_queries=instruction.use_stuff_queries)
        parts.append(VocabularyPart(tokenizer.tokenize(part), classes[chosen]))
    return parts


def _deal(costs: np.ndarray, room: int) -> np.ndarray:
    """The part of each phrase: in order, a new one wherever the room is used up."""
    group = np.zeros(len(costs), dtype=np.int64)
    used, number = 0, 0
    for index, cost in enumerate(costs):
        if used + cost > room:
            used, number = 0, number + 1
        group[index] = number
        used += cost
    return group
