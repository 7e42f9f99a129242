# Copyright (c) mvp_mm authors. All rights reserved.
"""Trains small tokenizers, for LLMs that start from random weights."""
from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from mvp_mm.tasks import prompts

END_OF_TEXT = '<|endoftext|>'
# What the tasks themselves say to the LLM and have it answer.
TASK_TEXTS = (prompts.WORD_DESCRIPTION, prompts.SENTENCE_DESCRIPTION, prompts.CAPTION_DESCRIPTION,
              f' {prompts.RESULT}', prompts.ANSWER)
_LEAST = 257


def train_bpe(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer.

    Args:
        texts: What to train on. Merges follow frequency.
        vocab_size: Most tokens: 256 bytes, the end of text, and merges.

    Returns:
        A fast tokenizer of transformers.

    Raises:
        ValueError: If the vocabulary is smaller than the bytes.
    """
    if vocab_size < _LEAST:
        raise ValueError(f'vocab_size={vocab_size} is below {_LEAST}, the 256 bytes and the end of '
                         'text')
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[END_OF_TEXT], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT)
