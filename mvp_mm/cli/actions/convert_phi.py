# Copyright (c) mvp_mm authors. All rights reserved.
"""Conversion of a folder of Phi into the layout of today's transformers."""
from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from mvp_mm.cli.command import Failure
from mvp_mm.converters import read_weights
from mvp_mm.converters.phi import convert_phi
from mvp_mm.engine.checkpoint import compare_with_model
from mvp_mm.utils.checkpoint_io import CheckpointError

_WEIGHTS = ('*.safetensors', 'pytorch_model*.bin')
_TOKENIZER = ('tokenizer*', 'vocab*', 'merges.txt', 'special_tokens_map.json', 'added_tokens.json')


def read_folder(folder: Path) -> dict[str, Tensor]:
    """All weights of a folder; of two formats, safetensors.

    Raises:
        FileNotFoundError: If there are none.
    """
    files = next((found for pattern in _WEIGHTS if (found := sorted(folder.glob(pattern)))), None)
    if files is None:
        raise FileNotFoundError(f'{folder} holds no weights ({", ".join(_WEIGHTS)})')
    weights: dict[str, Tensor] = {}
    for file in files:
        weights.update(read_weights(file))
    return weights


def read_sizes(folder: Path) -> AutoConfig:
    """The folder's sizes, as a Phi of transformers; no code of the folder is run.

    Raises:
        FileNotFoundError: If the folder has no config.
        ValueError: If its config is not a Phi's.
    """
    path = folder / 'config.json'
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist')
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is not valid JSON: {error}') from error
    if not isinstance(content, dict):
        raise ValueError(f'{path} holds a {type(content).__name__}, not the sizes of a model')
    if content.get('model_type') != 'phi':
        raise ValueError(f'{path}: model_type is {content.get("model_type")!r}, not phi')
    content.pop('auto_map', None)
    return AutoConfig.for_model(**content)


def convert_folder(folder: Path, out: Path) -> None:
    """Convert a folder and report what became of every tensor.

    Args:
        folder: Folder with ``config.json`` and weights.
        out: The new folder.

    Raises:
        Failure: If a file cannot be read, or weights and sizes disagree.
    """
    try:
        config = read_sizes(folder)
        done = convert_phi(read_folder(folder), config.num_attention_heads)
        with torch.device('meta'):
            model = AutoModelForCausalLM.from_config(config)
        compared = compare_with_model(model, done.state, folder)
    except (CheckpointError, FileNotFoundError) as error:
        raise Failure(str(error)) from error
    except (OSError, ValueError) as error:
        raise Failure(f'{folder}: {error}') from error
    lacking = [*compared.fresh, *compared.unused]
    if lacking:
        raise Failure(f'{folder}: weights and sizes disagree about {lacking[0]} and '
                      f'{len(lacking) - 1} more')
    model.load_state_dict(done.state, assign=True)
    model.save_pretrained(out)
    for pattern in _TOKENIZER:
        for file in folder.glob(pattern):
            shutil.copy(file, out)
    print(f'mapped: {len(done.state)}; left in the file: {len(done.left)} {done.left[:5]}')
    print(f'written to {out}')
