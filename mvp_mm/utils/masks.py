# Copyright (c) mvp_mm authors. All rights reserved.
"""Segment maps, polygons and run-length codes to bitmaps."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from mvp_mm.utils.arrays import to_numpy


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
    image = cv2.imread(path, cv2.IMREAD_COLOR)
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
    """Compressed COCO RLE of polygons or of another RLE.

    Raises:
        ValueError: If the segmentation is empty, malformed or of another image size.
    """
    if isinstance(segmentation, list):
        if not segmentation or any(len(p) < 6 or len(p) % 2 for p in segmentation):
            raise ValueError(f'{source}: a polygon needs at least three points, got '
                             f'{[len(p) for p in segmentation]} numbers')
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    if not isinstance(segmentation, dict) or not {'size', 'counts'} <= segmentation.keys():
        raise ValueError(f'{source}: segmentation is neither polygons nor RLE')
    if list(segmentation['size']) != [height, width]:
        raise ValueError(f'{source}: RLE of size {segmentation["size"]} on an image of '
                         f'{[height, width]}')
    if isinstance(segmentation['counts'], list):
        return coco_mask.frPyObjects(segmentation, height, width)
    return segmentation


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
