# Copyright (c) mvp_mm authors. All rights reserved.
"""Finds the weights that a user names: a checkpoint, a published folder or a model of the zoo."""
from __future__ import annotations

import hashlib
import json
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from mvp_mm.utils.checkpoint_format import CheckpointError
from mvp_mm.utils.shipped import PACKAGE, shipped_root

# Files of a published folder, and the format that its settings name.
WEIGHTS, SETTINGS = 'model.safetensors', 'config.json'
FORMAT = 'mvp_mm 1'
_INDEX = Path('configs', 'mvplm', 'metafile.yml')
_CHECKPOINTS = ('*.pth', '*.pt', '*.safetensors')


def zoo_models(index: str | Path | None = None) -> dict[str, dict[str, Any]]:
    """Read the index of the model zoo.

    Args:
        index: A ``metafile.yml`` in OpenMMLab's form; None for the shipped one.

    Returns:
        The entries under ``Models`` by their names, in lower case.

    Raises:
        FileNotFoundError: If there is no index.
        ValueError: If it is none.
    """
    path = shipped_root() / _INDEX if index is None else Path(index)
    content = yaml.safe_load(path.read_text(encoding='utf-8'))
    models = content.get('Models') if isinstance(content, dict) else None
    if not isinstance(models, list) or not all(
            isinstance(m, dict) and isinstance(m.get('Name'), str) for m in models):
        raise ValueError(f'{path} lists no Models with a Name')
    return {model['Name'].lower(): model for model in models}


def find_weights(source: str | Path, index: str | Path | None = None) -> Path:
    """Find the weights that a user names; every command that takes weights comes here.

    Args:
        source: A checkpoint, a published folder, or the name of a model of the zoo. A file or
            folder of that name in the working folder wins.
        index: See :func:`zoo_models`.

    Returns:
        An existing file, or a folder that says that it is a published model.

    Raises:
        FileNotFoundError: If there is neither such a file nor such a name, or no weights of that
            name are published.
        CheckpointError: If it is a folder, but no published model.
    """
    path = Path(os.path.expanduser(source))
    if not path.exists():
        path = _of_the_zoo(str(source), index)
    if path.is_dir() and not (path / SETTINGS).is_file():
        files = sorted(file for pattern in _CHECKPOINTS for file in path.glob(pattern))
        hint = f'; did you mean {files[0]}?' if len(files) == 1 else (
            f'; it has {len(files)} checkpoints: name one of them' if files else '')
        raise CheckpointError(f'{path} is a folder, but no published model: it has no '
                              f'{SETTINGS}{hint}')
    return path


def weights_file(source: str | Path) -> Path:
    """Find the file of the weights that a user names.

    Args:
        source: See :func:`find_weights`.

    Returns:
        The checkpoint, or the weights of the published folder.

    Raises:
        FileNotFoundError: If there is no such file or name, or the folder has no weights.
        CheckpointError: If it is a folder, but no published model.
    """
    path = find_weights(source)
    if not path.is_dir():
        return path
    read_settings(path)
    if not (path / WEIGHTS).is_file():
        raise FileNotFoundError(f'{path} is not whole: it has no {WEIGHTS}')
    return path / WEIGHTS


def read_settings(folder: Path) -> dict[str, Any]:
    """Read the settings of a published folder as data.

    Raises:
        CheckpointError: If the file is no JSON, or of another format.
    """
    path = folder / SETTINGS
    try:
        settings = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f'{path} is not valid JSON: {error}') from error
    if not isinstance(settings, dict) or settings.get('format') != FORMAT:
        raise CheckpointError(f'{path} is not of the format {FORMAT!r}')
    return settings


def check_published_sum(file: Path) -> None:
    """Compare weights with the checksum of the published folder that they lie in, if any.

    Args:
        file: A file of weights.

    Raises:
        CheckpointError: If the checksums differ.
    """
    if file.name != WEIGHTS or not (file.parent / SETTINGS).is_file():
        return
    try:
        settings = read_settings(file.parent)
    except CheckpointError:
        return  # another program's folder
    digest = hashlib.sha256()
    with open(file, 'rb') as stream:
        while chunk := stream.read(1 << 24):
            digest.update(chunk)
    if digest.hexdigest() != settings.get('sha256'):
        raise CheckpointError(f'{file} is damaged or another file: its checksum is not the one in '
                              f'{SETTINGS}')


def _of_the_zoo(name: str, index: str | Path | None) -> Path:
    """The published folder of a model of the zoo.

    Raises:
        FileNotFoundError: If there is no such model, or none of its weights.
    """
    models = zoo_models(index)
    model = models.get(name.lower())
    if model is None:
        near = get_close_matches(name.lower(), list(models), n=1)
        hint = f'did you mean {near[0]}? ' if near else ''
        # What was meant as a path needs no list of names.
        known = '' if not near and ('/' in name or Path(name).suffix) else (
            f', and no model of that name; {hint}known are {", ".join(sorted(models))}')
        raise FileNotFoundError(f'no such file or folder: {name}{known}')
    weights = model.get('Weights')
    if not weights:
        raise FileNotFoundError(
            f'No weights of {name} are published yet: train them with {model.get("Config")}, '
            'then give the checkpoint or a published folder')
    # The weights of the shipped index are package data; those of another lie beside it.
    path = (PACKAGE if index is None else Path(index).parent) / weights
    if not path.exists():
        raise FileNotFoundError(f'{name}: its weights {weights} are not here')
    return path
