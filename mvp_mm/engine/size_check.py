# Copyright (c) mvp_mm authors. All rights reserved.
"""Sizes in a config that must fit together, and files that must be whole."""
from __future__ import annotations

import zipfile
from collections.abc import Iterator
from math import ceil
from pathlib import Path

from mmengine.config import Config

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
    """Tell why a file cannot be a checkpoint, from its first and last bytes.

    Args:
        path: An existing file.

    Returns:
        The reason; None where nothing speaks against it.
    """
    if zipfile.is_zipfile(path):
        return None
    with open(path, 'rb') as file:
        start = file.read(2)
    if start == b'PK':
        return 'the file is not whole'
    # A pickle of torch's older format begins with its protocol.
    return None if start[:1] == b'\x80' else 'the file is no checkpoint'
