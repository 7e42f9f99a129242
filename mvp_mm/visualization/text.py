# Copyright (c) mvp_mm authors. All rights reserved.
"""Text on pictures: tags beside objects, and panels of paragraphs."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mvp_mm.visualization.palette import Color, ink_on

_PAPER: Color = (255, 255, 255)
_INK: Color = (24, 24, 28)
_GAP = 8
Box = tuple[int, int, int, int]


@lru_cache(maxsize=32)
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Load the sans-serif face that matplotlib ships, at a size in pixels."""
    from matplotlib.font_manager import FontProperties, findfont

    weight = 'bold' if bold else 'normal'
    return ImageFont.truetype(findfont(FontProperties('DejaVu Sans', weight=weight)), size)


def text_size(side: int) -> int:
    """Height of the text on a picture whose longer side has so many pixels.

    Text takes the same share of small and large pictures, so that it can be read wherever the
    whole picture is looked at.
    """
    return max(14, round(0.024 * side))


class Tags:
    """Labels on a picture that keep clear of one another.

    A label that had to move gets a line to its object. Nothing is drawn before :meth:`picture`,
    so that lines lie below all labels.

    Args:
        image: (h, w, 3) uint8; :meth:`picture` returns a copy with the labels.
        size: Height of the text in pixels; None for :func:`text_size`.
    """

    def __init__(self, image: np.ndarray, size: int | None = None) -> None:
        self._image = image
        self._height, self._width = image.shape[:2]
        self._size = size or text_size(max(image.shape[:2]))
        self._font = font(self._size)
        self._pad = max(3, self._size // 4)
        self._tags: list[tuple[Box, str, Color, bool, tuple[float, float] | None]] = []

    def add(self, text: str, point: tuple[float, float], color: Color, centred: bool = False,
            framed: bool = False) -> None:
        """Write a label.

        Args:
            text: Shortened where it is wider than the picture.
            point: (x, y) of the label's lower left corner, or of its centre.
            color: Its background, or its frame.
            centred: What ``point`` means.
            framed: Dark text on white in a coloured frame.
        """
        text = self._shorten(text)
        left, _, right, _ = self._font.getbbox(text)
        ascent, descent = self._font.getmetrics()
        width, height = int(right - left) + 2 * self._pad, ascent + descent + 2
        x = int(point[0] - width / 2 if centred else point[0])
        y = int(point[1] - height / 2 if centred else point[1] - height)
        start = self._inside(x, y, width, height)
        x, y = self._free_place(*start, width, height)
        moved = abs(x - start[0]) > height // 2 or abs(y - start[1]) > height // 2
        self._tags.append(((x, y, x + width, y + height), text, color, framed,
                           point if moved else None))

    def _shorten(self, text: str) -> str:
        room = self._width - 2 * self._pad - 4
        if self._font.getlength(text) <= room:
            return text
        while text and self._font.getlength(text + '…') > room:
            text = text[:-1]
        return text + '…'

    def _inside(self, x: int, y: int, width: int, height: int) -> tuple[int, int]:
        return (min(max(x, 0), max(self._width - width, 0)),
                min(max(y, 0), max(self._height - height, 0)))

    def _free_place(self, x: int, y: int, width: int, height: int) -> tuple[int, int]:
        """The nearest place inside the picture that no label takes yet."""
        for dx, dy in _offsets(max(height // 2, 1), max(width // 3, 1), self._height):
            place = self._inside(x + dx, y + dy, width, height)
            box = (*place, place[0] + width, place[1] + height)
            if not any(_meet(box, tag[0]) for tag in self._tags):
                return place
        return x, y

    def picture(self) -> np.ndarray:
        """The (h, w, 3) picture with the labels."""
        picture = Image.fromarray(self._image)
        draw = ImageDraw.Draw(picture)
        line = max(1, self._size // 10)
        for box, _, color, _, point in self._tags:
            if point is not None:
                end = tuple(min(max(p, low), high) for p, low, high in zip(
                    point, box[:2], box[2:], strict=True))
                draw.line((*point, *end), fill=_PAPER, width=3 * line)
                draw.line((*point, *end), fill=color, width=line)
                x, y = point
                draw.ellipse((x - 2 * line, y - 2 * line, x + 2 * line, y + 2 * line),
                             fill=color, outline=_PAPER)
        for (x1, y1, x2, y2), text, color, framed, _ in self._tags:
            draw.rounded_rectangle(
                (x1, y1, x2 - 1, y2 - 1), self._pad, fill=_PAPER if framed else color,
                outline=color if framed else None, width=2 * line if framed else 0)
            draw.text((x1 + self._pad - self._font.getbbox(text)[0], y1 + 1), text,
                      font=self._font, fill=_INK if framed else ink_on(color))
        return np.array(picture)


def _offsets(down: int, across: int, limit: int) -> Iterator[tuple[int, int]]:
    """Steps away from a place, the nearest first."""
    yield 0, 0
    for ring in range(1, limit // down + 2):
        for column in range(ring + 1):
            for dx in {column * across, -column * across}:
                for dy in (ring * down, -ring * down) if column < ring else (
                        row * down for row in range(-ring, ring + 1)):
                    yield dx, dy


def _meet(first: Box, second: Box) -> bool:
    return (first[0] < second[2] and second[0] < first[2]
            and first[1] < second[3] and second[1] < first[3])


def wrap(text: str, face: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Break a text into lines of at most ``width`` pixels; longer words are cut."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ''
        for word in paragraph.split():
            while face.getlength(word) > width and len(word) > 1:
                cut = next(n for n in range(len(word) - 1, 0, -1)
                           if n == 1 or face.getlength(word[:n]) <= width)
                lines += [line, word[:cut]] if line else [word[:cut]]
                line, word = '', word[cut:]
            joined = f'{line} {word}'.strip()
            if face.getlength(joined) > width:
                lines.append(line)
                joined = word
            line = joined
        if line:
            lines.append(line)
    return lines


def text_panel(paragraphs: Sequence[tuple[str, str]], width: int,
               size: int = 16) -> np.ndarray:
    """Write paragraphs with a bold heading each, black on white.

    Args:
        paragraphs: Pairs of heading and text.
        width: Width in pixels.
        size: Height of the text in pixels.

    Returns:
        (h, width, 3) uint8, as high as the text needs.
    """
    lines: list[tuple[str, bool]] = []
    for heading, text in paragraphs:
        lines += [(line, True) for line in wrap(heading, font(size, True), width - 2 * _GAP)]
        lines += [(line, False) for line in wrap(text, font(size), width - 2 * _GAP)]
    step = round(size * 1.4)
    panel = Image.new('RGB', (width, 2 * _GAP + step * len(lines)), _PAPER)
    draw = ImageDraw.Draw(panel)
    for row, (line, bold) in enumerate(lines):
        draw.text((_GAP, _GAP + row * step), line, font=font(size, bold), fill=_INK)
    return np.array(panel)
