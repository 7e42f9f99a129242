# Copyright (c) mvp_mm authors. All rights reserved.
"""Build a model without reading first weights that a whole-model checkpoint replaces.

A config names where parts start from (``pretrained_path``, ``pretrained``, ``init_cfg``). A
checkpoint that holds all tensors of such a part makes these files superfluous: they are neither
required nor read.
"""
from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from mvp_mm.engine.checkpoint import COMPUTED, named_as_in, prefixes
from mvp_mm.models.llms.building import without_weights
from mvp_mm.registry import MODELS
from mvp_mm.utils.checkpoint_io import peek_meta, peek_names

# The setting that names an LLM's folder.
_FOLDER = 'pretrained'


def names_given(path: str | Path | None) -> frozenset[str]:
    """List the tensors that a checkpoint gives, with those that it has left in another file.

    Args:
        path: The checkpoint; None for none.

    Returns:
        Names without those of parts that it says it took from elsewhere; empty where the file
        cannot be read, which loading it tells.
    """
    found: set[str] = set()
    seen: set[Path] = set()
    while path is not None and Path(path).resolve() not in seen:
        seen.add(Path(path).resolve())
        meta = peek_meta(path)
        elsewhere = prefixes(meta.get('pretrained_from') or ())
        found |= {name for name in peek_names(path) if not name.startswith(elsewhere)}
        path = meta.get('frozen_from')
    return frozenset(found)


def replaced_files(model: Mapping[str, Any], names: Collection[str]) -> set[str]:
    """Find the settings of a model that name files of weights which a checkpoint may replace.

    Args:
        model: ``model`` of a config.
        names: Tensors that the checkpoint gives.

    Returns:
        Dotted places below ``model``, such as ``encoder.backbone.pretrained_path``. An LLM's
        folder is not among them: its sizes and its tokenizer are needed all the same.
    """
    return {place for place, _, _ in _candidates(model, names) if not place.endswith(_FOLDER)}


def build_model(model: Mapping[str, Any], names: Collection[str]) -> nn.Module:
    """Build a model that a checkpoint is loaded into afterwards.

    Args:
        model: ``model`` of a config.
        names: Tensors that the checkpoint gives.

    Returns:
        The model. Parts of which the checkpoint has every tensor have random values, the others
        those of the files that the config names.

    Raises:
        FileNotFoundError: If a file that is needed is missing.
        ValueError: If a component cannot be built.
    """
    found = list(_candidates(model, names))
    built = _build(model, [place for place, _, _ in found])
    own = built.state_dict()
    given = named_as_in(own.keys(), dict.fromkeys(names))
    lacking = [key for key in own if key not in given and not key.endswith(COMPUTED)]
    whole = [place for place, prefix, _ in found
             if not any(key.startswith(prefix) for key in lacking)]
    return built if len(whole) == len(found) else _build(model, whole)


def _build(model: Mapping[str, Any], places: Collection[str]) -> nn.Module:
    built = MODELS.build(_without(model, places))
    if f'llm.{_FOLDER}' in places:
        # The folder's sizes are those before the tokenizer's new token.
        built.make_room()
    return built


def _candidates(model: Mapping[str, Any],
                names: Collection[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Iterate place, prefix of the part's tensors and settings of the part."""
    for where, part in _parts(model, ''):
        prefix = f'{where}.' if where else ''
        if not any(name.startswith(prefix) for name in names):
            continue
        init = part.get('init_cfg')
        if isinstance(init, Mapping) and init.get('type') == 'Pretrained':
            yield f'{prefix}init_cfg.checkpoint', prefix, part
        for key in ('pretrained_path', _FOLDER):
            if isinstance(part.get(key), str) and part[key]:
                yield f'{prefix}{key}', prefix, part


def _parts(value: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Iterate a dict and all dicts below it, with their places."""
    if isinstance(value, Mapping):
        yield where, value
        for key, child in value.items():
            yield from _parts(child, f'{where}.{key}'.lstrip('.'))


def _without(model: Mapping[str, Any], places: Collection[str]) -> dict[str, Any]:
    """Copy a model's settings without some files of weights; an LLM's sizes stay."""
    copied = copy.deepcopy(dict(model))
    for place in places:
        *path, key = place.removesuffix('.checkpoint').split('.')
        part = copied
        for step in path:
            part = part[step]
        if key == _FOLDER:
            part.update(without_weights(part))
        else:
            part[key] = None
    return copied
