# Copyright (c) mvp_mm authors. All rights reserved.
"""Instructions to token ids and phrase spans, within the context length of the LLM."""
from mvp_mm.tokenization.instruction_tokenizer import InstructionTokenizer, TooLongError
from mvp_mm.tokenization.released import ReleasedTokenizer

__all__ = ['InstructionTokenizer', 'ReleasedTokenizer', 'TooLongError']
