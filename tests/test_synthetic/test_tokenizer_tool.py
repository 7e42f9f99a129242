# Copyright (c) mvp_mm authors. All rights reserved.
"""The tokenizer that is trained on the drawn world."""
from __future__ import annotations

import pytest

from mvp_mm.synthetic import (
    COLOURS,
    STUFF_CLASSES,
    THING_CLASSES,
)
from tests.helpers import load_tool


def test_tokenizer_keeps_names_whole_and_loads_from_its_folder(world, tmp_path):
    transformers = pytest.importorskip('transformers')
    tool = load_tool('data/train_tokenizer')
    text = 'Please identify the target.'
    tool.train_tokenizer(tool.training_text(world), 512).save_pretrained(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.eos_token == '<|endoftext|>' and len(tokenizer) == 512
    for name in (*THING_CLASSES, *STUFF_CLASSES, *COLOURS):
        assert len(tokenizer(f' {name}').input_ids) == 1
    assert tokenizer.decode(tokenizer(text + ' é\n').input_ids) == text + ' é\n'



def test_tokenizer_says_when_the_vocabulary_is_too_small():
    tool = load_tool('data/train_tokenizer')
    with pytest.raises(ValueError, match='vocab_size=100'):
        tool.train_tokenizer(iter(['red']), 100)
    with pytest.raises(ValueError, match='in pieces'):
        tool.train_tokenizer(iter(['a red circle']), 260)
