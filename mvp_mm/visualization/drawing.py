# Copyright (c) mvp_mm authors. All rights reserved.
"""Drawing on RGB uint8 arrays: masks, boxes, tags and text panels."""
from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]

_PAPER: Color = (255, 255, 255)
_INK: Color = (24, 24, 28)
_GAP = 8


@lru_cache(maxsize=32)
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The sans-serif face that matplotlib ships, at a size in pixels."""
    weight = 'bold' if bold else 'normal'
    return ImageFont.truetype(findfont(FontProperties('DejaVu Sans', weight=weight)), size)


def color_of(index: int) -> Color:
    """A strong colour; neighbouring indices differ by the golden angle."""
    hue = (0.03 + index * 0.618034) % 1.
    shade = (1., 0.82, 0.92)[index % 3]
    return tuple(round(255 * c) for c in colorsys.hsv_to_rgb(hue, (0.85, 0.7)[index % 2], shade))


def enlarge(image: np.ndarray, least: int) -> tuple[np.ndarray, float]:
    """Scale an image up until its longer side has at least ``least`` pixels.

    Args:
        image: (h, w, 3) uint8.
        least: Length in pixels.

    Returns:
        The image and the factor.
    """
    factor = max(1., least / max(image.shape[:2]))
    if factor == 1.:
        return image.copy(), factor
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), factor


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A (h, w) bool mask at another size (h, w), its outline kept smooth."""
    if mask.shape == size:
        return mask
    soft = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
    return soft >= 0.5


def draw_mask(image: np.ndarray, mask: np.ndarray, color: Color, alpha: float = 0.45) -> None:
    """Tint the pixels of a mask and draw its outline, in place.

    Args:
        image: (h, w, 3) uint8.
        mask: (h, w) bool.
        color: RGB.
        alpha: Share of the tint.
    """
    tinted = image[mask] * (1 - alpha) + np.array(color) * alpha
    image[mask] = tinted.astype(np.uint8)
    contours, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, contours, -1, (255, 255, 255), 2, cv2.LINE_AA)
    cv2.drawContours(image, contours, -1, color, 1, cv2.LINE_AA)


def draw_box(image: np.ndarray, box: Sequence[float], color: Color) -> None:
    """Draw an xyxy box with a light rim, in place."""
    limit = np.array((image.shape[1], image.shape[0]) * 2) - 2
    x1, y1, x2, y2 = np.clip(np.round(box), 1, limit).astype(int).tolist()
    cv2.rectangle(image, (x1, y1), (x2, y2), (255, 255, 255), 4, cv2.LINE_AA)
    cv2.rectangle(image, (x1, y1), (x2, y2), color, 2, cv2.LINE_AA)


def anchor_of(mask: np.ndarray) -> tuple[int, int]:
    """The point (x, y) of a mask that lies deepest inside it."""
    # The rim counts as outside, so that the text of a region at the border stays in view.
    padded = np.pad(mask.astype(np.uint8), 1)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 3)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(x) - 1, int(y) - 1


class Tags:
    """Labels on a picture that keep clear of one another.

    Args:
        image: (h, w, 3) uint8; :meth:`picture` returns a copy with the labels.
        size: Height of the text in pixels.
    """

    def __init__(self, image: np.ndarray, size: int = 14) -> None:
        self._picture = Image.fromarray(image)
        self._draw = ImageDraw.Draw(self._picture)
        self._font = font(size)
        self._taken: list[tuple[int, int, int, int]] = []

    def add(self, text: str, point: tuple[float, float], color: Color,
            centred: bool = False) -> None:
        """Write a label.

        Args:
            text: Shortened where it is wider than the picture.
            point: (x, y) of the label's lower left corner, or of its centre.
            color: Its background.
            centred: What ``point`` means.
        """
        text = self._shorten(text)
        left, top, right, bottom = self._font.getbbox(text)
        ascent, descent = self._font.getmetrics()
        width, height = int(right - left) + 8, ascent + descent + 2
        x = int(point[0] - width / 2 if centred else point[0])
        y = int(point[1] - height / 2 if centred else point[1] - height)
        x, y = self._free_place(x, y, width, height)
        self._taken.append((x, y, x + width, y + height))
        self._draw.rounded_rectangle((x, y, x + width - 1, y + height - 1), 3, fill=color)
        luma = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
        self._draw.text((x + 4 - left, y + 1), text, font=self._font,
                        fill=_INK if luma > 140 else _PAPER)

    def _shorten(self, text: str) -> str:
        room = self._picture.width - 12
        if self._font.getlength(text) <= room:
            return text
        while text and self._font.getlength(text + '…') > room:
            text = text[:-1]
        return text + '…'

    def _free_place(self, x: int, y: int, width: int, height: int) -> tuple[int, int]:
        """The nearest place inside the picture, up or down, that no label takes yet."""
        x = min(max(x, 0), self._picture.width - width)
        lowest = max(self._picture.height - height, 0)
        y = min(max(y, 0), lowest)
        for step in range(0, lowest + 1, max(height // 3, 1)):
            for candidate in (y + step, y - step):
                box = (x, candidate, x + width, candidate + height)
                if 0 <= candidate <= lowest and not any(_meet(box, t) for t in self._taken):
                    return x, candidate
        return x, y

    def picture(self) -> np.ndarray:
        """The (h, w, 3) picture with the labels."""
        return np.array(self._picture)


def _meet(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
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


def text_panel(paragraphs: Sequence[tuple[str, str]], width: int, size: int = 16) -> np.ndarray:
    """Paragraphs with a bold heading each, black on white.

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


def contact_sheet(images: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Pictures in a grid, each row and column as large as it needs, on white.

    Args:
        images: (h, w, 3) uint8 each, of any sizes.
        columns: Number of columns.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: If there is no picture or no column.
    """
    if not images or columns < 1:
        raise ValueError(f'A sheet needs pictures and columns, got {len(images)} and {columns}')
    columns = min(columns, len(images))
    rows = [images[start:start + columns] for start in range(0, len(images), columns)]
    widths = [max(row[k].shape[1] for row in rows if k < len(row)) for k in range(columns)]
    heights = [max(image.shape[0] for image in row) for row in rows]
    sheet = np.full((sum(heights) + _GAP * (len(rows) - 1),
                     sum(widths) + _GAP * (columns - 1), 3), 255, dtype=np.uint8)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for image, width in zip(row, widths, strict=False):
            sheet[top:top + image.shape[0], left:left + image.shape[1]] = image
            left += width + _GAP
        top += height + _GAP
    return sheet
