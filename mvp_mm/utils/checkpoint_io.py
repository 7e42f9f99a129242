# Copyright (c) mvp_mm authors. All rights reserved.
"""Reading of weight files without running what is in them."""
from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

# Where tools keep the weights inside a checkpoint.
_NESTS = ('state_dict', 'model')


def read_weights(path: str | Path, trust_pickle: bool = False) -> dict[str, Tensor]:
    """Read tensors by name.

    Args:
        path: ``.safetensors``, a file of torch, or detectron2's ``.pkl`` of arrays.
        trust_pickle: Run a file that holds more than tensors; it may do anything.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a file of weights, or holds objects that would have to be run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'Weights not found: {path}')
    if path.suffix == '.safetensors':
        return load_file(path)
    content = _unpickle(path, trust_pickle)
    for nest in _NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(nest), Mapping):
            content = content[nest]
    if not isinstance(content, Mapping):
        raise ValueError(f'{path} holds a {type(content).__name__}, not weights by name')
    weights = {key: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
               for key, value in content.items()}
    weights = {key: value for key, value in weights.items() if isinstance(value, Tensor)}
    if not weights:
        raise ValueError(f'{path} holds no tensor by name; its keys are {sorted(content)[:10]}')
    return weights


def _unpickle(path: Path, trust: bool) -> object:
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        if not trust:
            raise ValueError(
                f'{path} is not a file of plain tensors ({str(error).splitlines()[0]}). Reading '
                'it would run what it holds; if you trust its origin, say --trust-pickle'
            ) from error
    try:
        return torch.load(path, map_location='cpu', weights_only=False)
    except (pickle.UnpicklingError, RuntimeError):
        with open(path, 'rb') as file:
            # detectron2's model zoo: pickled by Python 2 or 3, without torch's container.
            return pickle.load(file, encoding='latin1')
