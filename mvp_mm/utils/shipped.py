# Copyright (c) mvp_mm authors. All rights reserved.
"""Finds the configs, tools, demos and weights that come with the package."""
from __future__ import annotations

from os import PathLike
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def shipped_root() -> Path:
    """Return the folder that holds ``configs/``, ``tools/`` and ``demo/``.

    That is ``mvp_mm/.mim`` in an installed package, the repository root in a checkout.
    """
    installed = PACKAGE / '.mim'
    return installed if installed.is_dir() else PACKAGE.parent


def find_shipped(name: str | PathLike[str]) -> Path:
    """Resolve the name of a file against the working folder, then against the shipped files.

    A file of the working folder wins, so that ``configs/mvplm/stage2.py`` means the same in a
    checkout as ever, and an installed package finds it from any folder.

    Args:
        name: A path, such as ``configs/mvplm/tiny/stage2.py``.

    Returns:
        The path of an existing file.

    Raises:
        FileNotFoundError: If neither place has the file.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_root() / path
    if not path.is_absolute() and '..' not in path.parts and shipped.is_file():
        return shipped
    raise FileNotFoundError(f'{path}: no such file, neither here ({Path.cwd()}) nor among the '
                            f'shipped ones ({shipped_root()})')
