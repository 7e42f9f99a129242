# Copyright (c) mvp_mm authors. All rights reserved.
"""Bind the settings that several parts of a config need to the one place where each is written.

==================================  =======================================================
written once                        bound to
==================================  =======================================================
``model.llm.pretrained``            ``model.tokenizer.path``, unless that is named
the LLM's context                   ``model.tokenizer.max_length``, unless that is shorter
``canvas`` (width, height)          ``scale`` of resizing, ``size`` of PadToCanvas, ``canvas``
                                    of DrawView, ``model.tokenizer.num_visual_tokens``
``model.tokenizer``                 every pipeline that makes or reads tokens
``model.max_response_tokens``       ``response_room`` of pipelines that ask
``task_settings``                   every task of that type
==================================  =======================================================

A copy that a config writes out itself and that differs is an error naming both.
"""
from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mvp_mm.engine.config_error import ConfigError, hint, raise_problems, walk_dicts
from mvp_mm.registry import MODELS, TOKENIZERS

SECTIONS = ('train_dataloader', 'val_dataloader', 'test_dataloader', 'inferencer',
            'tta_pipeline')
ENCODER_STRIDE = 32
# Longest sequence unless a config says more; an LLM with a shorter context sets it.
DEFAULT_MAX_LENGTH = 2048
# Names of the context's length in the config.json of transformers' families.
_CONTEXT_KEYS = ('max_position_embeddings', 'n_positions', 'n_ctx', 'max_seq_len')
# Steps whose argument is the canvas.
_CANVAS_STEPS = {'ResizeToCanvas': 'scale', 'mmdet.Resize': 'scale', 'Resize': 'scale',
                 'PadToCanvas': 'size', 'DrawView': 'canvas'}
_TOKENIZER_STEPS = ('BuildInstructions', 'TokenizeRequests')


def bind_settings(cfg: Config) -> None:
    """Write every bound setting where it is needed, in place.

    Args:
        cfg: With datasets and pipelines written out.

    Raises:
        ConfigError: If a copy differs from what is bound, or cannot be told.
    """
    raise_problems(cfg.filename or 'config', _bind_all(cfg))


def binding_problems(cfg: Config) -> list[str]:
    """Find copies of bound settings that differ or are missing, for a config made in memory.

    Args:
        cfg: The config; it stays as it is.
    """
    bound = copy.deepcopy(cfg)
    problems = _bind_all(bound)
    for (path, step), (_, other) in zip(_steps(cfg), _steps(bound), strict=True):
        problems += [f'{path}.{key} is missing; read the config with mvp_mm.engine.load_config'
                     for key in ('tokenizer', *_CANVAS_STEPS.values())
                     if other.get(key) is not None and step.get(key) is None]
    return problems


def _bind_all(cfg: Config) -> list[str]:
    return [*_bind_canvas(cfg), *_bind_tokenizer(cfg), *_bind_steps(cfg), *_bind_tasks(cfg),
            *_bind_backends(cfg)]


def _steps(cfg: Config) -> Iterator[tuple[str, dict]]:
    """Iterate every dict with a type in the sections that read data."""
    for section in SECTIONS:
        for path, value in walk_dicts(cfg.get(section), section):
            if isinstance(value.get('type'), str):
                yield path, value


def _bind(place: dict, key: str, path: str, value: Any, source: str) -> Iterator[str]:
    """Fill in a setting, or compare the copy that stands there; one in part is completed."""
    if place.get(key) is None:
        place[key] = copy.deepcopy(value)
        return
    if isinstance(place[key], dict) and isinstance(value, dict):
        for name in value.keys() - place[key].keys():
            place[key][name] = copy.deepcopy(value[name])
    if _plain(place[key]) != _plain(value):
        at, own, bound = _first_difference(_plain(place[key]), _plain(value), f'{path}.{key}')
        suffix = at.removeprefix(f'{path}.{key}')
        yield f'{at}={own!r} differs from {source}{suffix}={bound!r}; write it there alone'


def _plain(value: Any) -> Any:
    """Tuples as lists, for comparing."""
    if isinstance(value, dict):
        return {key: _plain(child) for key, child in value.items() if key != '_scope_'}
    return [_plain(child) for child in value] if isinstance(value, (list, tuple)) else value


def _first_difference(own: Any, bound: Any, path: str) -> tuple[str, Any, Any]:
    if isinstance(own, dict) and isinstance(bound, dict):
        for key in [*own, *bound]:
            if own.get(key) != bound.get(key):
                return _first_difference(own.get(key), bound.get(key), f'{path}.{key}')
    return path, own, bound


def _bind_canvas(cfg: Config) -> Iterator[str]:
    """Bind the canvas to the pipelines; without ``canvas`` it is the one size they all pad to."""
    steps = [(path, step, _CANVAS_STEPS[step['type']]) for path, step in _steps(cfg)
             if step['type'] in _CANVAS_STEPS]
    source = 'canvas'
    if cfg.get('canvas') is None:
        padded = [(path, step[key]) for path, step, key in steps
                  if step['type'] == 'PadToCanvas' and step.get(key) is not None]
        if not padded:
            return
        source, canvas = f'{padded[0][0]}.size', padded[0][1]
        cfg['canvas'] = canvas
    canvas = _plain(cfg['canvas'])
    if not _is_canvas(canvas):
        yield f'{source}: is (width, height) in pixels, got {canvas!r}'
        return
    cfg['canvas'] = tuple(canvas)
    for path, step, key in steps:
        if step.get('scale_factor') is None and step.get('size_divisor') is None:
            yield from _bind(step, key, path, tuple(canvas), source)


def _is_canvas(canvas: Any) -> bool:
    return (isinstance(canvas, (list, tuple)) and len(canvas) == 2
            and all(type(side) is int and side > 0 for side in canvas))


def _bind_tokenizer(cfg: Config) -> Iterator[str]:
    """Complete ``model.tokenizer`` from LLM, canvas and connector."""
    model = cfg.get('model') or {}
    tokenizer, llm = model.get('tokenizer'), model.get('llm')
    if not isinstance(tokenizer, dict) or not isinstance(llm, dict):
        return
    if tokenizer.get('path') is None:
        if llm.get('pretrained') is None:
            yield 'model.tokenizer.path: name a folder; model.llm.pretrained is None'
            return
        tokenizer['path'] = llm['pretrained']
    yield from _bind_length(tokenizer, llm)
    if _is_canvas(cfg.get('canvas')) and _takes(tokenizer, 'num_visual_tokens'):
        try:
            count = visual_tokens(model, cfg['canvas'])
        except ValueError as error:
            yield str(error)
            return
        own = tokenizer.get('num_visual_tokens')
        if count is not None and own not in (None, count):
            yield (f'model.tokenizer.num_visual_tokens={own} differs from the {count} that '
                   f"canvas={tuple(cfg['canvas'])} and model.connector make; leave it out")
        elif count is not None:
            tokenizer['num_visual_tokens'] = count
        elif own is None and _is_known(model.get('connector')):
            yield ("model.tokenizer.num_visual_tokens: write it; model.connector's type has no "
                   'num_tokens to tell')


def _bind_length(tokenizer: dict, llm: dict) -> Iterator[str]:
    """Bind the longest sequence to the LLM's context."""
    if not _takes(tokenizer, 'max_length'):
        return
    context, source = llm_context(llm)
    own = tokenizer.get('max_length')
    if own is None:
        tokenizer['max_length'] = min(DEFAULT_MAX_LENGTH, context or DEFAULT_MAX_LENGTH)
    elif context is not None and isinstance(own, (int, float)) and own > context:
        yield f'model.tokenizer.max_length={own} is more than {source}={context}'


def llm_context(llm: dict) -> tuple[int | None, str]:
    """Length of the context of an LLM's config.

    Args:
        llm: ``model.llm`` of a config.

    Returns:
        The length in tokens, None where it is not known, and where it is written.
    """
    sizes, source = llm.get('config') or {}, 'model.llm.config'
    if isinstance(llm.get('pretrained'), str):
        file = Path(llm['pretrained'], 'config.json')
        sizes, source = {}, str(file)
        if file.is_file():
            try:
                sizes = json.loads(file.read_text(encoding='utf-8'))
            except ValueError as error:
                raise ConfigError(f'model.llm.pretrained: {file} is no JSON: {error}') from error
    for key in _CONTEXT_KEYS if isinstance(sizes, dict) else ():
        if isinstance(sizes.get(key), int):
            return sizes[key], f'{source}.{key}' if source == 'model.llm.config' else (
                f'{key} of {source}')
    return None, source


def visual_tokens(model: dict, canvas: tuple[int, int]) -> int | None:
    """Number of visual tokens that a model's connector makes of an image.

    Connectors tell by a static method ``num_tokens(height, width, **config)`` of the size of the
    encoder's last map. A backbone whose last map is not at stride 32 has a static method
    ``last_stride(**config)``.

    Args:
        model: ``model`` of a config.
        canvas: (width, height) in pixels.

    Returns:
        The number, or None where the connector does not tell.

    Raises:
        ValueError: If the connector cannot divide the map.
    """
    encoder = model.get('encoder')
    backbone = encoder.get('backbone') if isinstance(encoder, dict) else None
    stride = _told(MODELS, backbone, 'last_stride')
    stride = stride or ENCODER_STRIDE
    width, height = (ceil(side / stride) for side in canvas)
    try:
        return _told(MODELS, model.get('connector'), 'num_tokens', height, width)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ValueError(f'canvas={tuple(canvas)}, model.connector: {error}') from error


def _told(registry: Any, cfg: Any, method: str, *args: Any) -> Any:
    """Ask the class of a component's config; None where it cannot tell."""
    kind = cfg.get('type') if isinstance(cfg, dict) else None
    if isinstance(kind, str) and '.' in kind and not kind.startswith('mvp_mm.'):
        return None  # another package's, which has no such method
    component = registry.get(kind) if isinstance(kind, str) else kind
    told = getattr(component, method, None)
    if told is None:
        return None
    known = inspect.signature(told).parameters
    return told(*args, **{key: value for key, value in cfg.items() if key in known})


def _is_known(cfg: Any) -> bool:
    """Whether a component's type is in the registry; one that is not is named by the check."""
    kind = cfg.get('type') if isinstance(cfg, dict) else None
    return not isinstance(kind, str) or MODELS.get(kind) is not None


def _takes(tokenizer: dict, key: str) -> bool:
    """Whether a tokenizer's class has an argument; one that is unknown is named by the check."""
    kind = tokenizer.get('type')
    component = TOKENIZERS.get(kind) if isinstance(kind, str) else None
    return component is not None and key in inspect.signature(component).parameters


def _bind_steps(cfg: Config) -> Iterator[str]:
    """Give the model's tokenizer and room to every step of a pipeline that needs them."""
    model = cfg.get('model') or {}
    tokenizer, room = model.get('tokenizer'), model.get('max_response_tokens')
    for path, step in _steps(cfg):
        known = step['type'] in _TOKENIZER_STEPS
        if tokenizer is not None and (known or isinstance(step.get('tokenizer'), dict)):
            yield from _bind(step, 'tokenizer', path, tokenizer, 'model.tokenizer')
        if room is not None and known and not step.get('training', False):
            yield from _bind(step, 'response_room', path, room, 'model.max_response_tokens')


def _bind_tasks(cfg: Config) -> Iterator[str]:
    """Give ``task_settings`` to every task of their type."""
    types: set[str] = set()
    settings = cfg.get('task_settings') or {}
    for path, value in _steps(cfg) if settings else ():
        types.add(value['type'])
        for key, setting in (settings.get(value['type']) or {}).items():
            source = f"task_settings.{value['type']}.{key}"
            yield from _bind(value, key, path, setting, source)
    for kind in settings:
        if kind not in types:
            yield f"task_settings.{kind}: the config has no such task{hint(kind, types)}"


def _bind_backends(cfg: Config) -> Iterator[str]:
    """Give ``vis_backends``, which OpenMMLab's configs write apart, to the visualizer."""
    if isinstance(cfg.get('visualizer'), dict):
        cfg['visualizer'].setdefault('type', 'Visualizer')
    if cfg.get('vis_backends') is not None:
        if cfg.get('visualizer') is None:
            cfg['visualizer'] = dict(type='Visualizer')
        yield from _bind(
            cfg['visualizer'], 'vis_backends', 'visualizer', cfg['vis_backends'], 'vis_backends')
