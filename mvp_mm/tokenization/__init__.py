# Copyright (c) mvp_mm authors. All rights reserved.
"""Turns instructions into token ids and phrase spans, within the LLM's context length."""
from __future__ import annotations

from mvp_mm.tokenization.instruction_tokenizer import InstructionTokenizer, TooLongError
from mvp_mm.tokenization.released import ReleasedTokenizer

__all__ = ['InstructionTokenizer', 'ReleasedTokenizer', 'TooLongError']
