# Copyright (c) mvp_mm authors. All rights reserved.
"""Colours by class that people with colour-vision deficiencies can tell apart."""
from __future__ import annotations

Color = tuple[int, int, int]

# Okabe and Ito's hues, which differ in lightness too.
_HUES: tuple[Color, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (0, 114, 178), (213, 94, 0),
    (240, 228, 66))


def color_of(index: int) -> Color:
    """Pick the colour of a class: seven hues, then the same darker, then paler.

    The colour depends on the class alone, so that truth and prediction agree.
    """
    hue, shade = _HUES[index % len(_HUES)], index // len(_HUES) % 3
    if shade == 1:
        return tuple(round(0.6 * c) for c in hue)
    if shade == 2:
        return tuple(round(255 - 0.5 * (255 - c)) for c in hue)
    return hue


def ink_on(color: Color) -> Color:
    """Black or white, whichever reads better on a colour."""
    luma = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    return (24, 24, 28) if luma > 130 else (255, 255, 255)
