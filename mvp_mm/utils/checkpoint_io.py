# Copyright (c) mvp_mm authors. All rights reserved.
"""Read every file of weights by one rule, without running what is in it.

All commands, and mmengine's and mmdet's own loading, come here
(:func:`register_with_mmengine`): the same files are taken and refused everywhere.
"""
from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mvp_mm.utils.checkpoint_format import CheckpointError, format_of
from mvp_mm.utils.named_weights import check_published_sum, weights_file
from mvp_mm.utils.safe_unpickling import (
    HoldsObjectsError,
    StoredHistory,
    load_plain,
    load_safetensors,
    load_torch,
)

__all__ = ['CheckpointError', 'HoldsObjectsError', 'check_finite', 'peek_meta',
           'peek_names', 'read_checkpoint', 'read_weights', 'register_with_mmengine']

# Where tools keep the weights inside a checkpoint, and what wrappers put before their names.
_NESTS = ('state_dict', 'model')
_WRAPPERS = re.compile(r'^(?:module\.|_orig_mod\.)+')
# Schemes of mmengine that fetch weights from elsewhere.
_REMOTE = ('http://', 'https://', 'pavi://', r'(\S+\:)?s3://', r'(\S+\:)?petrel://',
           'modelzoo://', 'torchvision://', 'open-mmlab://', 'openmmlab://', 'mmcls://')


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a file of weights onto the CPU: tensors and plain data, nothing is run.

    Every format is taken: torch's zip archives and its format before 1.6, safetensors, and
    pickles of arrays. Checksums are compared where the format has them, and every value is
    looked at. Weights may lie under ``state_dict`` or ``model`` or be the whole file; the
    prefixes of data-parallel and compiled models are taken off their names.

    Args:
        path: The file; or a published folder, or a name of the model zoo
            (:func:`~mvp_mm.utils.named_weights.find_weights`).

    Returns:
        With ``state_dict``, tensors by name, and ``meta``, a dict, without mmengine's
        ``config``, which its runner would evaluate. What else a runner has stored is there too.
        Tensors of a zip archive are mapped from the file.

    Raises:
        FileNotFoundError: If there is no such file, folder or name.
        CheckpointError: If it holds no weights, or not all of them, or objects that would have
            to be run, or a value that is not finite.
    """
    path = weights_file(path)
    content = _load(path)
    check_published_sum(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f'{path} holds a {type(content).__name__}, not weights by name')
    nest = next((name for name in _NESTS if name in content
                 and not isinstance(content[name], Tensor)), None)
    state = _state_of(content if nest is None else content[nest], path, nest)
    checkpoint = dict(content) if nest == 'state_dict' else {}
    meta = content.get('meta')
    checkpoint['meta'] = {key: value for key, value in meta.items() if key != 'config'} \
        if isinstance(meta, Mapping) else {}
    checkpoint['state_dict'] = state
    check_finite(state, path)
    if isinstance(checkpoint.get('optimizer'), Mapping):
        check_finite(dict(_tensors_below(checkpoint['optimizer'], 'optimizer')), path)
    _restore_histories(checkpoint, path)
    return checkpoint


def peek_meta(path: str | Path) -> dict[str, Any]:
    """Read what a checkpoint says about itself, without its tensors; nothing is run.

    Args:
        path: As for :func:`read_checkpoint`; it may be damaged.

    Returns:
        Its ``meta``; empty where there is none, or where it cannot be read.
    """
    try:
        path = weights_file(path)
        kind = format_of(path)
        content = load_torch(path, kind, check=False) if kind == 'zip' else {}
    except (CheckpointError, OSError):
        return {}
    meta = content.get('meta') if isinstance(content, Mapping) else None
    return dict(meta) if isinstance(meta, Mapping) else {}


def peek_names(path: str | Path) -> frozenset[str]:
    """List the tensors of a file of weights without reading their values; nothing is run.

    Args:
        path: As for :func:`read_checkpoint`; it may be damaged.

    Returns:
        Their names in the model; empty where the file cannot be read.
    """
    try:
        path = weights_file(path)
        kind = format_of(path)
        if kind == 'safetensors':
            with safe_open(path, 'pt') as file:
                return frozenset(_WRAPPERS.sub('', key) for key in file.keys())  # noqa: SIM118
        content = load_torch(path, kind, check=False) if kind == 'zip' else _load(path)
        if not isinstance(content, Mapping):
            return frozenset()
        nest = next((content[name] for name in _NESTS
                     if isinstance(content.get(name), Mapping)), content)
        return frozenset(_state_of(nest, path, None))
    except (CheckpointError, OSError, SafetensorError, AttributeError):
        return frozenset()


def read_weights(path: str | Path, trust_pickle: bool = False) -> dict[str, Tensor]:
    """Read tensors by name; see :func:`read_checkpoint`.

    Args:
        path: As for :func:`read_checkpoint`.
        trust_pickle: Run a sound file that holds more than tensors; it may do anything.

    Raises:
        FileNotFoundError: If there is no such file, folder or name.
        CheckpointError: If it is no file of weights.
    """
    try:
        return read_checkpoint(path)['state_dict']
    except HoldsObjectsError:
        if not trust_pickle:
            raise
    content = _run(Path(path))
    if isinstance(content, Mapping):
        for nest in _NESTS:
            if isinstance(content.get(nest), Mapping):
                content = content[nest]
        return _state_of(content, Path(path), None)
    raise CheckpointError(f'{path} holds a {type(content).__name__}, not weights by name')


def _load(path: Path) -> object:
    kind = format_of(path)
    if kind == 'safetensors':
        return load_safetensors(path)
    return load_plain(path) if kind == 'pickle' else load_torch(path, kind)


def _run(path: Path) -> object:
    """Unpickle a file with all that it runs, which its owner has asked for."""
    if format_of(path) != 'pickle':
        return torch.load(path, map_location='cpu', weights_only=False)
    with open(path, 'rb') as file:
        # detectron2's model zoo: pickled by Python 2 or 3, without torch's container.
        return pickle.load(file, encoding='latin1')


def _state_of(state: object, path: Path, nest: str | None) -> dict[str, Tensor]:
    """Tensors by their names in the model.

    Args:
        state: What the file has where the weights should be.
        path: The file.
        nest: Key that it lies under; None for the file itself, which may hold more.
    """
    if not isinstance(state, Mapping):
        raise CheckpointError(f'{path}: {nest} is a {type(state).__name__}, not weights by name')
    weights: dict[str, Tensor] = {}
    for key, value in state.items():
        if isinstance(value, np.ndarray) and value.dtype != object:
            value = torch.from_numpy(value)
        if not isinstance(value, Tensor) or not isinstance(key, str):
            if nest == 'state_dict' and value is not None and not str(key).endswith('_extra_state'):
                what = (f'is a {type(value).__name__}, not a tensor' if isinstance(key, str)
                        else 'is named by no text')
                raise CheckpointError(f'{path}: {nest}.{key} {what}')
            continue
        name = _WRAPPERS.sub('', key)
        if name in weights:
            raise CheckpointError(f'{path} holds {name} twice, with and without the prefix of a '
                                  'wrapper')
        weights[name] = value
    if not weights:
        raise CheckpointError(f'{path} holds no tensor by name; its keys are '
                              f'{[str(key) for key in state][:10]}')
    return weights


def check_finite(state: Mapping[str, Tensor], path: str | Path) -> None:
    """Look at every value.

    Args:
        state: Tensors by name.
        path: Where they come from, for the message.

    Raises:
        CheckpointError: Naming the first tensor that holds NaN or infinity, or that has no
            values of its own.
    """
    broken = []
    for key, value in state.items():
        # Shapes cost a hostile file nothing: values that it does not hold are never expanded.
        if value.is_meta or (value.layout == torch.strided and value.numel()
                             * value.element_size() > value.untyped_storage().nbytes()):
            raise CheckpointError(f'{path}: {key} has a shape, but not that many values')
        if value.is_floating_point() and not _finite(value):
            broken.append(key)
    if broken:
        raise CheckpointError(f'{path}: {len(broken)} tensors hold values that are not finite, '
                              f'the first is {broken[0]}')


def _finite(value: Tensor) -> bool:
    value = value.detach()
    if value.layout != torch.strided:
        value = value.coalesce().values() if value.layout == torch.sparse_coo else value.values()
    if value.element_size() == 1:
        value = value.float()  # float8 has no test of its own
    return bool(value.isfinite().all())


def _tensors_below(value: object, where: str) -> list[tuple[str, Tensor]]:
    """All tensors of nested dicts and lists, with the path to each."""
    if isinstance(value, Tensor):
        return [(where, value)]
    items = (value.items() if isinstance(value, Mapping) else
             enumerate(value) if isinstance(value, (list, tuple)) else ())
    return [found for key, child in items for found in _tensors_below(child, f'{where}.{key}')]


def _restore_histories(checkpoint: dict[str, Any], path: Path) -> None:
    """Build mmengine's histories of logged values from their numbers."""
    hub = checkpoint.get('message_hub')
    scalars = hub.get('log_scalars') if isinstance(hub, Mapping) else None
    if not isinstance(scalars, dict):
        return
    for name, history in list(scalars.items()):
        if isinstance(history, StoredHistory):
            try:
                scalars[name] = HistoryBuffer(*history.numbers())
            except ValueError as error:
                raise CheckpointError(f'{path}: message_hub.{name}: {error}') from error


def load_from_checked_file(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Loader of mmengine's for all names without a scheme; stays on the CPU whatever is asked.

    Who loads a checkpoint copies it to where the model and the optimizer are.
    """
    return read_checkpoint(filename)


def load_from_nowhere_else(filename: str, map_location: Any = None) -> None:
    """Loader of mmengine's for names with a scheme.

    Raises:
        CheckpointError: Always.
    """
    raise CheckpointError(f'{filename}: weights are read from local files alone; download it and '
                          'give the path')


def register_with_mmengine() -> None:
    """Make mmengine and mmdet load through :func:`read_checkpoint` (``init_cfg``, resuming, …)."""
    CheckpointLoader.register_scheme('', load_from_checked_file, force=True)
    CheckpointLoader.register_scheme(list(_REMOTE), load_from_nowhere_else, force=True)
