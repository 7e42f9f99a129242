# Copyright (c) mvp_mm authors. All rights reserved.
"""Tokenises instructions as the authors' released code shows them to the LLM."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from transformers import PreTrainedTokenizerBase

from mvp_mm.registry import TOKENIZERS
from mvp_mm.structures import Instruction, Segment, SegmentKind
from mvp_mm.tokenization.instruction_tokenizer import InstructionTokenizer

PAD, END_OF_PHRASE = '[PAD]', '[SEG]'
BACKGROUND = [Segment(SegmentKind.TEXT, ','), Segment(SegmentKind.PHRASE, 'background')]


@TOKENIZERS.register_module()
class ReleasedTokenizer(InstructionTokenizer):
    """Closes every phrase with ``[SEG]`` and every word list with the phrase "background".

    The two tokens that the released code adds come behind the LLM's own, ``[PAD]`` first. The
    summary token is ``[PAD]``: the released code has a place of zeros there, which
    :class:`ReleasedMVPLM` makes of it. Any task can be asked; the background is the last phrase
    of its instruction. In training the released code puts it anywhere in the list.

    Args:
        path: See :class:`InstructionTokenizer`.
        num_visual_tokens: Number V of visual tokens of an image.
        max_length: Longest sequence T that the LLM takes, visual tokens included.
    """

    def __init__(self, path: str, num_visual_tokens: int | None = None,
                 max_length: int = 2048) -> None:
        super().__init__(path, num_visual_tokens, per_token=PAD, max_length=max_length)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The underlying tokenizer, shared by every instance in the process."""
        tokenizer = super().tokenizer
        if END_OF_PHRASE not in tokenizer.get_added_vocab():
            tokenizer.add_tokens([END_OF_PHRASE], special_tokens=True)
        return tokenizer

    @cached_property
    def _closing_id(self) -> int:
        return self.tokenizer.convert_tokens_to_ids(END_OF_PHRASE)

    @property
    def max_length(self) -> int:
        """Longest sequence before the background is added."""
        return self._limit - self.length_of(BACKGROUND)

    @max_length.setter
    def max_length(self, value: int) -> None:
        self._limit = value

    def tokenize(self, instruction: Instruction) -> Instruction:
        """See :meth:`InstructionTokenizer.tokenize`; a word list gets its background."""
        if instruction.kind != 'word':
            return super().tokenize(instruction)
        kinds = [segment.kind for segment in instruction.prompt]
        end = len(kinds) - kinds[::-1].index(SegmentKind.PHRASE)
        longer = replace(
            instruction,
            prompt=[*instruction.prompt[:end], *BACKGROUND, *instruction.prompt[end:]],
            phrases=[*instruction.phrases, BACKGROUND[-1].text],
            is_thing=np.append(instruction.is_thing, False),
            undecided=None if instruction.undecided is None else np.append(
                instruction.undecided, False))
        vars(instruction).update(vars(super().tokenize(longer)))
        return instruction

    def _segment_ids(self, segment: Segment, task: str) -> Sequence[int]:
        ids = super()._segment_ids(segment, task)
        if segment.kind is SegmentKind.PHRASE:
            return [*ids, self._closing_id]
        return ids

    def _check_length(self, instruction: Instruction, total: int, prompt_length: int) -> None:
        # Both sides without the background.
        added = self.length_of(BACKGROUND)
        super()._check_length(instruction, total - added, prompt_length - added)
