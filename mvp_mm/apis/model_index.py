# Copyright (c) mvp_mm authors. All rights reserved.
"""Looks models of the model zoo up by name."""
from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from mvp_mm.utils.shipped import PACKAGE, shipped_root

_INDEX = Path('configs', 'mvplm', 'metafile.yml')


def zoo_models(index: str | Path | None = None) -> dict[str, dict[str, Any]]:
    """Read the model index.

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


def find_model(source: str | Path, index: str | Path | None = None) -> Path:
    """Find the weights that a user names.

    Args:
        source: A checkpoint, a published folder, or the name of a model of the index.
        index: See :func:`zoo_models`.

    Returns:
        An existing file or folder.

    Raises:
        FileNotFoundError: If there is neither such a file nor such a name, or no weights of that
            name are published.
    """
    if Path(source).exists():
        return Path(source)
    models = zoo_models(index)
    known = ', '.join(sorted(models))
    model = models.get(str(source).lower())
    if model is None:
        near = get_close_matches(str(source).lower(), list(models), n=1)
        hint = f'did you mean {near[0]}? ' if near else ''
        raise FileNotFoundError(f'{source}: no such file or folder, and no model of that name; '
                                f'{hint}known are {known}')
    weights = model.get('Weights')
    if not weights:
        raise FileNotFoundError(
            f'No weights of {source} are published yet: train them with {model.get("Config")}, '
            'then give the checkpoint or a published folder')
    # The weights of the shipped index are package data; those of another lie beside it.
    path = (PACKAGE if index is None else Path(index).parent) / weights
    if not path.exists():
        raise FileNotFoundError(f'{source}: its weights {weights} are not here')
    return path
