# Copyright (c) mvp_mm authors. All rights reserved.
"""Images that have no caption."""
from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np


def count_without_caption(names: Iterable[str], rows: np.ndarray,
                          has_caption: Callable[[str], object]) -> tuple[int, str]:
    """Count images without a caption.

    Args:
        names: File names of all images.
        rows: Positions of those in use.
        has_caption: Tells whether an image has one.

    Returns:
        Their number, and the name of one of them.
    """
    used = np.zeros(int(rows.max()) + 1 if len(rows) else 0, dtype=bool)
    used[rows] = True
    number, example = 0, ''
    for name, in_use in zip(names, used.tolist(), strict=False):
        if in_use and not has_caption(name):
            number, example = number + 1, example or name
    return number, example
