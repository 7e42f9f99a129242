# Copyright (c) mvp_mm authors. All rights reserved.
"""Splits word lists beyond the LLM's context into parts, whose phrases are scored together."""
from __future__ import annotations

import numpy as np

from mvp_mm.structures import Instruction, VocabularyPart
from mvp_mm.tokenization.instruction_tokenizer import InstructionTokenizer, TooLongError
from mvp_mm.tokenization.word_list import WordList, deal
from mvp_mm.utils.texts import shown


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
    words = WordList(instruction.prompt, tokenizer)
    classes = instruction.classes
    if classes is None:
        classes = np.arange(len(words.phrases))
    costs = np.bincount(classes, words.costs)
    room = words.room(response_room)
    if costs.max() > room:
        longest = instruction.phrases[int(costs.argmax())]
        raise TooLongError(
            f'Task {instruction.task}: {shown(longest)} takes '
            f'{int(costs.max()) - words.separator_cost} tokens, but beside the prompt, the image '
            f'and {response_room} tokens of response there is room for '
            f'{room - words.separator_cost} of max_length={tokenizer.max_length}')
    group = deal(costs, room)[classes]
    parts = []
    for number in range(group[-1] + 1):
        chosen = np.flatnonzero(group == number)
        part = Instruction(
            task=instruction.task, kind=instruction.kind, prompt=words.prompt_of(chosen),
            response=[], phrases=[words.phrases[index].text for index in chosen],
            is_thing=instruction.is_thing[classes[chosen]],
            use_stuff_queries=instruction.use_stuff_queries)
        parts.append(VocabularyPart(tokenizer.tokenize(part), classes[chosen]))
    return parts
