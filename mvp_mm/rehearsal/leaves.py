# Copyright (c) mvp_mm authors. All rights reserved.
"""Finds the configs that a user may name."""
from __future__ import annotations

from pathlib import Path

from mmengine.config import Config

from mvp_mm.utils.shipped import shipped_root

CONFIGS = 'configs/mvplm'


def find_leaves(folder: str = '') -> list[str]:
    """List the whole configs below ``configs/mvplm``.

    Files that only others inherit are none.

    Args:
        folder: A folder of them, such as ``eval``; all by default.

    Returns:
        Their names as they are typed, sorted.
    """
    root = shipped_root()
    paths = sorted((root / CONFIGS / folder).rglob('*.py'))
    names = {path: path.relative_to(root).as_posix() for path in paths}
    return [name for path, name in names.items() if _is_whole(path)]


def _is_whole(path: Path) -> bool:
    return {'model', 'train_cfg', 'optim_wrapper'} <= set(Config.fromfile(path))
