# Copyright (c) mvp_mm authors. All rights reserved.
"""The tokenizer of a config whose LLM starts from random weights."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from mvp_mm.own_data.labels import LabeledDataset
from mvp_mm.tokenization.bpe import TASK_TEXTS, train_bpe

_VOCAB_SIZE = 576
_REPEATS = 100    # merges follow frequency: task texts and names become whole words


def find_tokenizer(model: dict[str, Any], dataset: LabeledDataset,
                   folder: Path) -> tuple[Path | None, str]:
    """Find the tokenizer of a base config, or train one on the words of the labels.

    Args:
        model: The ``model`` of the base config.
        dataset: The labels.
        folder: Where a tokenizer that is trained here goes, as ``tokenizer``.

    Returns:
        Its folder, None for the one of a pretrained LLM, and a sentence that says which it is.
    """
    if model['llm'].get('pretrained'):
        return None, f'tokenizer: the one of the LLM, {model["llm"]["pretrained"]}'
    known = Path(model['tokenizer']['path'])
    if known.is_dir():
        return known, f'tokenizer: {known}'
    texts = list(TASK_TEXTS)
    for name in dataset.classes:
        texts += [f' {name}', name]
    texts += [f' {sentence}' for image in dataset.images for found in image.objects
              for sentence in found.expressions]
    target = folder / 'tokenizer'
    train_bpe(texts * _REPEATS, _VOCAB_SIZE).save_pretrained(str(target))
    return target, (f'tokenizer: {target}, trained on these labels, since there is no {known}; to '
                    'fine-tune a trained model, set model.tokenizer.path to its own')
