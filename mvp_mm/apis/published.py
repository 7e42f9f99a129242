# Copyright (c) mvp_mm authors. All rights reserved.
"""The form in which weights are passed on: a folder of data, without code and without pickles."""
from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from safetensors.torch import save as serialise
from torch import Tensor, nn

from mvp_mm.apis.stored_config import checked_config
from mvp_mm.registry import TOKENIZERS
from mvp_mm.utils.atomic import write_bytes, write_text
from mvp_mm.utils.checkpoint_io import CheckpointError, check_finite, read_weights
from mvp_mm.utils.named_weights import FORMAT, SETTINGS, WEIGHTS, read_settings, weights_file

TOKENIZER = 'tokenizer'
# What a tokenizer of transformers may consist of.
_TOKENIZER_FILES = ('tokenizer*', 'vocab*', 'merges.txt', 'special_tokens_map.json',
                    'added_tokens.json')


def save_published(folder: str | Path, model: nn.Module, config: Config,
                   classes: Mapping[str, bool] | None = None) -> None:
    """Write ``model.safetensors``, ``config.json`` and the tokenizer's files into a new folder.

    Args:
        folder: A folder that does not exist or is empty.
        model: The model with its trained weights.
        config: What it was built from, with ``inferencer``.
        classes: The classes that it was trained on, and whether each is a thing.

    Raises:
        FileExistsError: If the folder is not empty.
        CheckpointError: If a weight is not finite.
        WriteError: If the folder cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f'{folder} exists and is not an empty folder')
    state = {key: value.detach().cpu().contiguous().clone()
             for key, value in model.state_dict().items()}
    check_finite(state, folder)
    settings = {key: config[key].to_dict() for key in ('model', 'inferencer')
                if config.get(key) is not None}
    _name_tokenizers(settings, folder)
    _drop_sources(settings, model)
    content = serialise(state)
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / WEIGHTS, content)
    settings = dict(format=FORMAT, sha256=hashlib.sha256(content).hexdigest(),
                    default_scope='mvp_mm', classes=dict(classes or {}), **settings)
    # Last: a folder with it is whole.
    write_text(folder / SETTINGS, json.dumps(settings, indent=1, ensure_ascii=False) + '\n')


def load_published(
        folder: str | Path) -> tuple[Config, dict[str, Tensor], dict[str, bool]]:
    """Read a folder of :func:`save_published`; nothing in it is run.

    Args:
        folder: The folder.

    Returns:
        The config, with the paths of its files; the weights by name; the classes that the model
        was trained on, and whether each is a thing.

    Raises:
        FileNotFoundError: If a file is missing.
        CheckpointError: If a file is damaged, or the config names anything but registered
            components and files of the folder.
    """
    folder = Path(folder)
    path = folder / SETTINGS
    file = weights_file(folder)
    settings = read_settings(folder)
    config = checked_config(settings, folder, path)
    return config, read_weights(file), _classes(settings, path)


def _classes(settings: dict[str, Any], path: Path) -> dict[str, bool]:
    classes = settings.get('classes', {})
    if not isinstance(classes, dict) or not all(isinstance(v, bool) for v in classes.values()):
        raise CheckpointError(f'{path}: classes must say of each name whether it is a thing')
    return classes


def _name_tokenizers(settings: dict[str, Any], folder: Path) -> None:
    """Copy the files of the tokenizer, and point everything that builds one to the copy."""
    TOKENIZERS.import_from_location()
    sources = set()
    for part in _dicts(settings):
        if part.get('type') in TOKENIZERS.module_dict and part.get('path'):
            sources.add(Path(part['path']).resolve())
            part['path'] = TOKENIZER
    if len(sources) > 1:
        raise ValueError(f'the config names several tokenizers: {sorted(map(str, sources))}')
    for source in sources:
        (folder / TOKENIZER).mkdir(parents=True, exist_ok=True)
        for file in sorted({f for pattern in _TOKENIZER_FILES for f in source.glob(pattern)}):
            shutil.copy(file, folder / TOKENIZER)


# GGUF files name the model that they come from as well.
_NAMES_OF_ORIGIN = ('_name_or_path', '_model_name_or_path', 'auto_map')


def _drop_sources(settings: dict[str, Any], model: nn.Module) -> None:
    """Take out where the parts' first weights came from; an LLM's sizes stay."""
    for part in _dicts(settings):
        if part.get('type') == 'CausalLM' and part.get('pretrained'):
            sizes = {key: value for key, value in model.llm.lm.config.to_dict().items()
                     if key not in _NAMES_OF_ORIGIN}
            part.update(pretrained=None, config=sizes)
        elif part.get('pretrained_path'):
            part['pretrained_path'] = None
        init = part.get('init_cfg')
        if isinstance(init, dict) and init.get('type') == 'Pretrained':
            part['init_cfg'] = None


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    """All dicts below a value, itself included."""
    if isinstance(value, dict):
        yield value
    children = value.values() if isinstance(value, dict) else \
        value if isinstance(value, (list, tuple)) else ()
    for child in children:
        yield from _dicts(child)
