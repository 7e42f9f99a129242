# Copyright (c) mvp_mm authors. All rights reserved.
"""Drawing on RGB uint8 arrays: masks and boxes whose lines scale with the picture, and sheets."""
from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from mvp_mm.visualization.palette import Color

_GAP = 8
# Stripes of stuff along the longer side of a picture, and the share of it that they cover.
_STRIPES = 40
_STRIPED = 0.3
# What lies inside a rim keeps its own colour: share of the tint there, of that on the rim.
_INSIDE = 0.15


def line_width(image: np.ndarray) -> int:
    """Width of a thin line on a picture: 1 up to 960 pixels, 5 at 3200."""
    return max(1, round(max(image.shape[:2]) / 640))


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
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), factor


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A (h, w) bool mask at another size (h, w), its outline kept smooth."""
    if mask.shape == size:
        return mask
    soft = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
    return soft >= 0.5


def _extent(mask: np.ndarray) -> tuple[slice, slice] | None:
    """Rows and columns of a mask's pixels; None where it has none."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if not len(rows):
        return None
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def draw_mask(image: np.ndarray, mask: np.ndarray, color: Color, alpha: float = 0.45,
              striped: bool = False) -> None:
    """Draw the outline of a mask with a tinted rim inside it, in place.

    Within the rim the tint is faint, so that a red object under an orange mask stays red.

    Args:
        image: (h, w, 3) uint8.
        mask: (h, w) bool.
        color: RGB.
        alpha: Share of the tint on the rim.
        striped: Tint in thin diagonal stripes in place of a rim, for stuff.
    """
    extent = _extent(mask)
    if extent is None:
        return
    part, inside = image[extent], mask[extent]
    width = line_width(image)
    contours, _ = cv2.findContours(
        inside.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    if striped:
        period = max(8, max(image.shape[:2]) // _STRIPES)
        y, x = np.ogrid[extent]
        bold = (x + y) % period < _STRIPED * period
    else:
        # Of a small object the rim must leave the middle free.
        rim = min(6 * width, max(1, round(0.1 * float(np.sqrt(np.count_nonzero(inside))))))
        bold = np.zeros(inside.shape, dtype=np.uint8)
        cv2.drawContours(bold, contours, -1, 1, 2 * rim)
        bold = bold.astype(bool)
    _tint(part, inside & ~bold, color, _INSIDE * alpha)
    _tint(part, inside & bold, color, alpha)
    contours = [contour + (extent[1].start, extent[0].start) for contour in contours]
    if not striped:
        cv2.drawContours(image, contours, -1, (255, 255, 255), 4 * width, cv2.LINE_AA)
    cv2.drawContours(image, contours, -1, color, width if striped else 2 * width, cv2.LINE_AA)


def _tint(image: np.ndarray, mask: np.ndarray, color: Color, alpha: float) -> None:
    paint = np.empty_like(image)
    paint[:] = color
    mixed = cv2.addWeighted(image, 1 - alpha, paint, alpha, 0, dst=paint)
    np.copyto(image, mixed, where=mask[..., None])


def draw_box(image: np.ndarray, box: Sequence[float], color: Color,
             dashed: bool = False) -> None:
    """Draw an xyxy box with a light rim, in place.

    Args:
        image: (h, w, 3) uint8.
        box: Corners in pixels.
        color: RGB.
        dashed: Draw it dashed, for a repeated answer.
    """
    width = line_width(image)
    limit = np.maximum(np.array((image.shape[1], image.shape[0]) * 2) - 2, 0)
    x1, y1, x2, y2 = np.clip(np.round(box), np.minimum(1, limit), limit).astype(int).tolist()
    if not dashed:
        cv2.rectangle(image, (x1, y1), (x2, y2), (255, 255, 255), 4 * width, cv2.LINE_AA)
        cv2.rectangle(image, (x1, y1), (x2, y2), color, 2 * width, cv2.LINE_AA)
        return
    step = 10 * width
    for start, end in (((x1, y1), (x2, y1)), ((x1, y2), (x2, y2)), ((x1, y1), (x1, y2)),
                       ((x2, y1), (x2, y2))):
        length = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
        for at in range(0, length, 2 * step):
            ends = [tuple(round(a + (b - a) * min(t, length) / length)
                          for a, b in zip(start, end, strict=True)) for t in (at, at + step)]
            cv2.line(image, *ends, (255, 255, 255), 3 * width, cv2.LINE_AA)
            cv2.line(image, *ends, color, 2 * width, cv2.LINE_AA)


def anchor_of(mask: np.ndarray) -> tuple[int, int]:
    """The point (x, y) of a mask that lies deepest inside it; the mask has pixels."""
    rows, columns = _extent(mask)
    # The rim counts as outside, so that the text of a region at the border stays in view.
    padded = np.pad(mask[rows, columns].astype(np.uint8), 1)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 3)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(x) - 1 + int(columns.start), int(y) - 1 + int(rows.start)


def repeated_answers(boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray,
                     iou: float = 0.5) -> np.ndarray:
    """Find answers that repeat a better one.

    Args:
        boxes: (n, 4) xyxy.
        labels: (n,).
        scores: (n,).
        iou: Box IoU from which two answers of one label mean one object.

    Returns:
        (n,) int64, the better answer that each repeats, or its own index.
    """
    first = np.arange(len(boxes))
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    order = np.argsort(-scores, kind='stable')
    for place, k in enumerate(order):
        better = order[:place]
        better = better[(labels[better] == labels[k]) & (first[better] == better)]
        corners = (np.maximum(boxes[better, :2], boxes[k, :2]),
                   np.minimum(boxes[better, 2:], boxes[k, 2:]))
        shared = np.prod(np.maximum(corners[1] - corners[0], 0), axis=1)
        same = shared >= iou * np.maximum(area[better] + area[k] - shared, 1e-9)
        if same.any():
            first[k] = better[same.argmax()]
    return first


def contact_sheet(images: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Put pictures in a grid, each row and column as large as it needs, on white.

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


def justified_sheet(images: Sequence[np.ndarray], width: int, height: int) -> np.ndarray:
    """Put pictures in rows that all fill the width, whatever the pictures' shapes.

    Args:
        images: (h, w, 3) uint8 each, in the order of reading.
        width: Of the sheet, in pixels.
        height: About that of a row; pictures of a row are scaled to one height.

    Returns:
        (H, width, 3) uint8.

    Raises:
        ValueError: If there is no picture.
    """
    if not images:
        raise ValueError('A sheet needs pictures')
    shares = np.array([image.shape[1] / image.shape[0] for image in images])
    # Rather a row more: text in pictures that are scaled down is hard to read.
    count = min(len(images), max(1, math.ceil(float(shares.sum()) * height / width - 0.1)))
    # A picture belongs to the row in which its middle lies, were all rows one.
    middles = (shares.cumsum() - shares / 2) / shares.sum()
    rows = [_justified_row([images[k] for k in np.flatnonzero(np.int64(middles * count) == row)],
                           width) for row in range(count)]
    rows = [row for row in rows if row is not None]
    gap = np.full((_GAP, width, 3), 255, dtype=np.uint8)
    return np.concatenate([part for row in rows for part in (row, gap)][:-1])


def _justified_row(images: Sequence[np.ndarray], width: int) -> np.ndarray | None:
    """Scale pictures to one height at which they fill the width; None where there are none."""
    if not images:
        return None
    free = width - _GAP * (len(images) - 1)
    shares = np.array([image.shape[1] / image.shape[0] for image in images])
    height = max(1, round(free / float(shares.sum())))
    edges = np.round(np.concatenate(([0], shares.cumsum())) / shares.sum() * free).astype(int)
    row = np.full((height, width, 3), 255, dtype=np.uint8)
    for k, image in enumerate(images):
        size = max(1, int(edges[k + 1] - edges[k])), height
        shrinks = size[0] < image.shape[1]
        left = int(edges[k]) + k * _GAP
        row[:, left:left + size[0]] = cv2.resize(
            image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return row
