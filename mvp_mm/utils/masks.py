# Copyright (c) mvp_mm authors. All rights reserved.
"""Segment maps, polygons and run-length codes to bitmaps."""
from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from mvp_mm.utils.arrays import to_numpy
from mvp_mm.utils.records import MAX_COORDINATE
from mvp_mm.utils.texts import shown

# What the mask code can take: the length of a polygon's outline in pixels, the pixels of an
# image, the digits of a compressed run.
MAX_OUTLINE = 1 << 23
_MAX_PIXELS = (1 << 32) - 1
_MAX_DIGITS = 6
_NUMBERS = {int, float}


def read_segment_map(path: str) -> np.ndarray:
    """Read a panoptic PNG.

    Returns:
        (h, w) uint32 segment ids, ``R + 256 G + 65536 B``.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not an image.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'Panoptic segment map {path} does not exist')
    try:
        image = cv2.imread(path, cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ValueError(f'{path} is not a readable image: {error}') from error
    if image is None:
        raise ValueError(f'{path} is not a readable image')
    quads = cv2.cvtColor(image, cv2.COLOR_BGR2RGBA)
    return quads.view('<u4')[..., 0] & 0xFFFFFF


def number_segments(segment_map: np.ndarray, ids: np.ndarray, path: str) -> np.ndarray:
    """Replace segment ids by their positions in a list, counted from 1.

    Args:
        segment_map: (h, w) uint32 below 2^24, 0 where no segment is.
        ids: (n,) the segments that the annotation names.
        path: Name of the map's file, for messages.

    Returns:
        (h, w) uint8, or uint16 where there are more than 255 segments; 0 where no segment is.

    Raises:
        ValueError: If the map lacks a named segment or holds one that is not named.
    """
    # Segments are runs of equal pixels: there are far fewer runs than pixels to look up.
    flat = segment_map.reshape(-1)
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(starts, append=flat.size)
    values = flat[starts]
    known = np.concatenate([[0], ids])
    order = np.argsort(known)
    place = np.searchsorted(known, values, sorter=order)
    numbers = order[np.minimum(place, len(ids))]
    named = known[numbers] == values
    areas = np.bincount(numbers[named], lengths[named], len(known))[1:]
    if not areas.all():
        raise ValueError(f'{path}: no pixel has the annotated segment ids '
                         f'{ids[areas == 0].tolist()}')
    if not named.all():
        raise ValueError(f'{path}: segment ids {np.unique(values[~named]).tolist()} are not in '
                         'the annotation')
    kind = np.uint8 if len(ids) < 256 else np.uint16
    return np.repeat(numbers.astype(kind), lengths).reshape(segment_map.shape)


def to_rle(segmentation: Any, height: int, width: int, source: str) -> dict[str, Any]:
    """Turn a record's segmentation into a compressed COCO RLE; nothing unverified is decoded.

    The mask code trusts what it is given: a coordinate that is not a number ends the process, and
    a code that does not cover its image changes the masks of other objects decoded with it.

    Args:
        segmentation: Polygons, a list of ``[x1, y1, x2, y2, ...]`` in pixels; or an RLE, ``size``
            ``[h, w]`` with ``counts``, a list of run lengths or their compressed code.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        source: The record's name, for messages: file, image and annotation id.

    Returns:
        ``size`` ``[h, w]`` and ``counts``, bytes, whose runs are positive but for the first.

    Raises:
        ValueError: For anything that is not a mask of this size.
    """
    if height * width > _MAX_PIXELS:
        raise ValueError(f'{source}: an image of {height} x {width} is too large for a mask')
    if isinstance(segmentation, list):
        _check_polygons(segmentation, source)
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    if not isinstance(segmentation, dict) or not {'size', 'counts'} <= segmentation.keys():
        raise ValueError(f'{source}: segmentation is neither polygons nor RLE: '
                         f'{shown(segmentation)}')
    size, counts = segmentation['size'], segmentation['counts']
    if not isinstance(size, (list, tuple)) or list(size) != [height, width]:
        raise ValueError(f'{source}: RLE of size {shown(size)} on an image of {[height, width]}')
    packed = isinstance(counts, (str, bytes))
    try:
        runs = unpack_runs(counts) if packed else _whole_runs(counts)
    except ValueError as error:
        raise ValueError(f'{source}: {error}') from error
    total = int(runs.sum())
    if total != height * width:
        raise ValueError(f'{source}: the runs cover {total} pixels, the image has '
                         f'{height * width}')
    if runs.min() < 0:
        raise ValueError(f'{source}: a run length is negative')
    if not runs[1:].all():
        runs = _without_gaps(runs)
    elif packed:
        code = counts.encode() if isinstance(counts, str) else counts
        return dict(size=[height, width], counts=code)
    return coco_mask.frPyObjects(dict(size=[height, width], counts=runs), height, width)


def _check_polygons(polygons: list, source: str) -> None:
    for polygon in polygons or [None]:
        if type(polygon) is not list or len(polygon) < 6 or len(polygon) & 1:
            lengths = [len(p) if type(p) is list else shown(p) for p in polygons[:10]]
            raise ValueError(f'{source}: a polygon needs at least three points, [x1, y1, x2, y2, '
                             f'x3, y3, ...], got {lengths} numbers')
        if not set(map(type, polygon)) <= _NUMBERS:
            wrong = next(value for value in polygon if type(value) not in _NUMBERS)
            raise ValueError(f'{source}: a polygon has {shown(wrong)} among its coordinates')
        _check_coordinates(polygon, source)


def _check_coordinates(polygon: list[float], source: str) -> None:
    with contextlib.suppress(OverflowError):
        # Enough for nearly all: no coordinate is beyond their sum, and none is not a number.
        if sum(map(abs, polygon)) <= MAX_COORDINATE:
            return
    low, high = min(polygon), max(polygon)
    if not (low >= -MAX_COORDINATE and high <= MAX_COORDINATE) or math.isnan(sum(polygon)):
        raise ValueError(f'{source}: a polygon has a coordinate that is not finite or beyond '
                         f'{MAX_COORDINATE}: {shown(polygon)}')
    if _outline(polygon) > MAX_OUTLINE:
        raise ValueError(f"{source}: a polygon's outline is longer than {MAX_OUTLINE} pixels")


def _outline(polygon: list[float]) -> float:
    """Length of a closed polygon, in steps along the longer side of each edge."""
    points = np.array(polygon, dtype=np.float64).reshape(-1, 2)
    return float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())


def _whole_runs(counts: Any) -> np.ndarray:
    """Run lengths of a list, (n,) int64.

    Raises:
        ValueError: If it is no list of whole numbers, or they are far too large.
    """
    kinds = set(map(type, counts)) if isinstance(counts, list) else set()
    runs = np.full(1, np.nan)
    if kinds and kinds <= _NUMBERS:
        with contextlib.suppress(OverflowError):
            runs = np.array(counts, dtype=np.int64 if kinds == {int} else np.float64)
    # A comparison with what is not a number is false.
    whole = runs.dtype.kind == 'i' or not (runs % 1).any()
    if not whole or not (np.abs(runs) <= _MAX_PIXELS).all():
        raise ValueError(f'the run lengths must be whole numbers, got {shown(counts)}')
    return runs.astype(np.int64, copy=False)


def unpack_runs(code: str | bytes) -> np.ndarray:
    """Decode the run lengths of COCO's compressed RLE.

    Each run is a number in base 32, lowest digit first, two's complement, one character per digit
    (its value above ``'0'``, plus 32 where a digit follows); from the fourth run on the number is
    the difference from the run two before.

    Args:
        code: ``counts`` of a compressed RLE.

    Returns:
        (n,) int64; neither positive nor of any sum for sure.

    Raises:
        ValueError: If it is no such code.
    """
    if isinstance(code, str):
        if not code.isascii():
            raise ValueError(f'{shown(code)} is no compressed RLE')
        code = code.encode()
    digits = np.frombuffer(code, dtype=np.uint8).astype(np.int64) - ord('0')
    if not digits.size:
        return digits
    last = np.flatnonzero((digits & 32) == 0)
    if digits.min() < 0 or digits.max() > 63 or not last.size or last[-1] != len(digits) - 1:
        raise ValueError(f'{shown(code)} is no compressed RLE')
    first = np.append(0, last[:-1] + 1)
    lengths = last - first + 1
    if lengths.max() > _MAX_DIGITS:
        raise ValueError(f'the compressed RLE has a run of more than {_MAX_DIGITS} digits')
    shifts = 5 * (np.arange(len(digits)) - np.repeat(first, lengths))
    runs = np.add.reduceat((digits & 31) << shifts, first)
    runs -= np.where(digits[last] & 16, 1 << 5 * lengths, 0)
    for start in (1, 2):
        runs[start::2] = np.cumsum(runs[start::2])
    return runs


def _without_gaps(runs: np.ndarray) -> np.ndarray:
    """The same mask without runs of length 0 behind the first, which merging takes for ends."""
    colours = np.arange(len(runs)) % 2
    kept = np.flatnonzero(runs)
    changes = np.flatnonzero(np.diff(colours[kept], prepend=-1))
    joined = np.add.reduceat(runs[kept], changes)
    return np.append(0, joined) if colours[kept[0]] else joined


def rle_masks(rles: Sequence[dict[str, Any]], height: int, width: int) -> np.ndarray:
    """Bitmaps of RLEs, (n, h, w) uint8."""
    if not len(rles):
        return np.zeros((0, height, width), dtype=np.uint8)
    return np.ascontiguousarray(coco_mask.decode(list(rles)).transpose(2, 0, 1))


def encode_masks(masks: Any) -> list[dict[str, Any]]:
    """(n, h, w) bool masks as n COCO RLE dicts."""
    rows = np.ascontiguousarray(to_numpy(masks), dtype=bool).view(np.uint8)
    if not len(rows):
        return []
    # RLEs run down the columns: OpenCV turns masks faster than numpy copies them transposed.
    columns = np.empty((len(rows), *rows.shape[:0:-1]), dtype=np.uint8)
    for row, column in zip(rows, columns, strict=True):
        cv2.transpose(row, column)
    return coco_mask.encode(columns.transpose(2, 1, 0))
