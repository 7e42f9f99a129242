# Copyright (c) mvp_mm authors. All rights reserved.
"""Draws an answer for the page: the picture with outlines whose tags appear on hover (SVG)."""
from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from mvp_mm.serving.schema import Mask, PredictResponse
from mvp_mm.utils.masks import rle_masks
from mvp_mm.visualization.palette import color_of, ink_on

# Longest side of the drawing, whose lines and texts are measured in its pixels; small pictures are
# enlarged, and of large ones the page gets as much. Downloads have all pixels.
SIDE = 1280
_numbers = itertools.count()

STYLE = """
.mvp-answer svg { width: 100%; height: auto; max-height: 75vh; display: block; }
.mvp-answer .shape { cursor: pointer; outline: none; }
.mvp-answer .shape path { fill-opacity: .1; stroke-width: 3; vector-effect: non-scaling-stroke; }
.mvp-answer .shape.stuff path { fill-opacity: .1; stroke-dasharray: 7 5; }
.mvp-answer .shape rect { stroke-width: 2; vector-effect: non-scaling-stroke; fill-opacity: .04; }
.mvp-answer svg:has(.shape:hover) .shape:not(:hover) { opacity: .35; }
.mvp-answer .shape:hover path, .mvp-answer .shape:focus path { fill-opacity: .6; stroke-width: 4; }
.mvp-answer .tag { opacity: 0; pointer-events: none; }
.mvp-answer .chips { display: flex; flex-wrap: wrap; gap: 6px; margin-top: 8px; }
.mvp-answer .chip { padding: 2px 8px; border-radius: 6px; font-size: 14px; cursor: default; }
.mvp-answer .chip.stuff { outline: 2px dashed currentColor; outline-offset: -2px; }
.mvp-answer .nothing { margin: 8px 0; font-size: 16px; }
"""


@dataclass(frozen=True)
class _Shape:
    """One thing to draw: an object or a region."""

    label: str
    score: float | None
    mask: Mask | None
    box: tuple[float, float, float, float] | None
    is_thing: bool

    @property
    def tag(self) -> str:
        return self.label if self.score is None else f'{self.label} {self.score:.2f}'


def draw_overlay(response: PredictResponse, image: Image.Image, names: Sequence[str] = ()) -> str:
    """Draw an answer as HTML.

    Args:
        response: The answer.
        image: The image, upright, RGB.
        names: The words that were asked for; a word has the colour of its place among them.

    Returns:
        A ``div`` with an SVG and one chip per object; texts are escaped.
    """
    preview = image.copy()
    preview.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    preview.save(file, 'JPEG', quality=88)
    picture = base64.b64encode(file.getvalue()).decode()
    scale = SIDE / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    shapes = _shapes(response)
    labels = dict.fromkeys([*names, *sorted(shape.label for shape in shapes)])
    colors = {label: color_of(number) for number, label in enumerate(labels)}
    ident = f'answer{next(_numbers)}'
    drawn, tags, chips, rules = [], [], [], []
    font = SIDE / 42
    for number, shape in enumerate(shapes):
        color = _css(colors[shape.label])
        ink = _css(ink_on(colors[shape.label]))
        kind = '' if shape.is_thing else ' stuff'
        outline, corner = _outline(shape, scale, (height, width))
        drawn.append(f'<g class="shape{kind}" data-n="{number}" tabindex="0" fill="{color}" '
                     f'stroke="{color}"><title>{escape(shape.tag)}</title>{outline}</g>')
        tags.append(_tag(number, shape.tag, corner, font, width, color, ink))
        chips.append(f'<span class="chip{kind}" data-n="{number}" style="background:{color};'
                     f'color:{ink}">{escape(shape.tag)}</span>')
        at = f'[data-n="{number}"]'
        rules.append(
            f'#{ident}:has({at}:hover) .tag{at}, #{ident}:has(.shape{at}:focus) .tag{at}'
            f'{{opacity:1}} #{ident}:has(.chip{at}:hover) .shape{at} path{{fill-opacity:.7}}')
    told = 'Nothing was found.' if not shapes else '' if response.found else (
        'Not found: this is a guess.')
    nothing = f'<p class="nothing">{told}</p>' if told else ''
    return (f'<div class="mvp-answer" id="{ident}"><style>{"".join(rules)}</style>'
            f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="the answer">'
            f'<image href="data:image/jpeg;base64,{picture}" width="{width}" height="{height}"/>'
            f'{"".join(drawn)}{"".join(tags)}</svg>{nothing}'
            f'<div class="chips">{"".join(chips)}</div></div>')


def _shapes(response: PredictResponse) -> list[_Shape]:
    """The largest first, below the others."""
    regions = [one.segment_id is not None for one in response.objects]
    shapes = [_Shape(one.label, one.score, one.mask, None if region else one.box,
                     one.is_thing is not False)
              for one, region in zip(response.objects, regions, strict=True)]
    return sorted(shapes, key=_area, reverse=True)


def _area(shape: _Shape) -> float:
    if shape.box is not None:
        return (shape.box[2] - shape.box[0]) * (shape.box[3] - shape.box[1])
    return float(coco_mask.area(_rle(shape.mask))) if shape.mask else 0.


def _rle(mask: Mask) -> dict[str, Any]:
    return dict(size=list(mask.size), counts=mask.counts.encode())


def _outline(shape: _Shape, scale: float, size: tuple[int, int]
             ) -> tuple[str, tuple[float, float]]:
    """A mask as a path and a box as a rectangle, and the upper left corner of what is drawn."""
    parts, corner = [], (0., 0.)
    if shape.mask is not None:
        bitmap = rle_masks([_rle(shape.mask)], *shape.mask.size)[0]
        bitmap = cv2.resize(bitmap, size[::-1], interpolation=(
            cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST))
        contours, _ = cv2.findContours(bitmap, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        paths = []
        for contour in contours:
            points = cv2.approxPolyDP(contour, 0.75, True)[:, 0]
            paths.append('M' + 'L'.join(f'{x} {y}' for x, y in points.tolist()) + 'Z')
        if contours:
            corner = tuple(np.concatenate(contours)[:, 0].min(axis=0).astype(float).tolist())
        parts.append(f'<path fill-rule="evenodd" d="{"".join(paths)}"/>')
    if shape.box is not None:
        x1, y1, x2, y2 = (side * scale for side in shape.box)
        corner = x1, y1
        parts.append(f'<rect x="{x1:.1f}" y="{y1:.1f}" width="{max(x2 - x1, 0):.1f}" '
                     f'height="{max(y2 - y1, 0):.1f}"/>')
    return ''.join(parts), corner


def _tag(number: int, text: str, corner: tuple[float, float], font: float, width: int, color: str,
         ink: str) -> str:
    """A label above a corner, kept inside of the picture; long ones are cut."""
    most = max(4, int(width / font / 0.58) - 2)
    shown = text if len(text) <= most else text[:most - 1] + '\u2026'
    wide, high = 0.58 * font * len(shown) + font * 0.8, 1.45 * font
    x = min(max(corner[0], 0), max(width - wide, 0))
    y = max(corner[1] - high, 0)
    return (f'<g class="tag" data-n="{number}"><rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" '
            f'height="{high:.1f}" rx="{font * .25:.1f}" fill="{color}"/><text x="'
            f'{x + font * .4:.1f}" y="{y + font * 1.05:.1f}" font-size="{font:.1f}" fill="{ink}" '
            f'font-family="sans-serif">{escape(shown)}</text></g>')


def _css(color: tuple[int, int, int]) -> str:
    return f'rgb({color[0]},{color[1]},{color[2]})'
