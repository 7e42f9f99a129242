# Copyright (c) mvp_mm authors. All rights reserved.
"""Sizes in a config that must fit together, and files that must be whole."""
from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from pathlib import Path

from mmengine.config import Config

from mvp_mm.utils.checkpoint_format import CheckpointError, format_of
from mvp_mm.utils.safe_unpickling import load_torch

# Strides of the pixel decoder's memory.
MEMORY_STRIDES = (8, 16, 32, 64)
SELECTING = ('DynamicQueryGenerator', 'VisualQueryGenerator')


def size_problems(cfg: Config) -> Iterator[str]:
    """Find more queries than an image has memory tokens to select them from."""
    model = cfg.get('model') or {}
    generator = (model.get('perception') or {}).get('query_generator') or {}
    wanted = generator.get('num_queries')
    if generator.get('type') not in SELECTING or not isinstance(wanted, int):
        return
    for section in ('train_dataloader', 'val_dataloader', 'test_dataloader', 'inferencer'):
        for width, height in sorted(set(_canvases(cfg.get(section)))):
            tokens = sum(ceil(width / s) * ceil(height / s) for s in MEMORY_STRIDES)
            if wanted > tokens:
                yield (f'model.perception.query_generator.num_queries: {wanted} queries cannot '
                       f'be selected from the {tokens} memory tokens of the {width} x {height} '
                       f'canvas of {section}')


def _canvases(value: object) -> Iterator[tuple[int, int]]:
    """Iterate the canvas sizes of all pipelines below a value."""
    if isinstance(value, dict) and value.get('type') == 'PadToCanvas' and value.get('size'):
        yield tuple(value['size'])
    children = (value.values() if isinstance(value, dict) else
                value if isinstance(value, (list, tuple)) else ())
    for child in children:
        yield from _canvases(child)


def checkpoint_fault(path: str | Path) -> str | None:
    """Tell why a file cannot be a checkpoint, without reading its tensors.

    Args:
        path: An existing file.

    Returns:
        One line with the file and the cause; None where nothing speaks against it.
    """
    try:
        if format_of(path) == 'zip':
            load_torch(Path(path), 'zip', check=False)
    except CheckpointError as error:
        return str(error)
    return None
