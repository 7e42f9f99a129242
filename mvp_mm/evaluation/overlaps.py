# Copyright (c) mvp_mm authors. All rights reserved.
"""Overlaps of boxes, masks and label maps that the metrics share."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from pycocotools import mask as coco_mask
from torchvision.ops import box_iou as _box_iou

from mvp_mm.ops.cpu_kernel import load_kernel
from mvp_mm.utils.arrays import to_numpy

_KERNEL_TYPES = (np.dtype(np.int32), np.dtype(np.int64))


def box_iou(boxes: Any, targets: Any) -> np.ndarray:
    """Pairwise IoU.

    Args:
        boxes: (n, 4) xyxy.
        targets: (m, 4) xyxy.

    Returns:
        (n, m) float64; 0 where both boxes are empty.
    """
    first = torch.from_numpy(to_numpy(boxes).reshape(-1, 4).astype(np.float64))
    second = torch.from_numpy(to_numpy(targets).reshape(-1, 4).astype(np.float64))
    return _box_iou(first, second).nan_to_num_(0.).numpy()


def union_of_rles(rles: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> torch.Tensor:
    """The union of COCO RLE masks.

    Args:
        rles: m masks of the same size, m may be 0.
        size: (h, w) of the image.

    Returns:
        (h, w) bool tensor.

    Raises:
        ValueError: If the masks have another size.
    """
    if not rles:
        return torch.zeros(size, dtype=torch.bool)
    merged = coco_mask.decode(coco_mask.merge([dict(rle) for rle in rles]))
    if merged.shape != tuple(size):
        raise ValueError(f'ground-truth masks have size {merged.shape}, the image {tuple(size)}')
    # RLEs run down the columns; comparing with rows is far slower than turning the mask once.
    return torch.from_numpy(cv2.transpose(merged.T)).bool()


def without_ignored(truth: Mapping[str, Any], target: torch.Tensor,
                    masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Take pixels that count for nothing out of the target and of the answers.

    Args:
        truth: Where it has them, ``ignored`` is a COCO RLE of those pixels.
        target: (h, w) bool.
        masks: (n, h, w) bool, on any device.

    Returns:
        ``target`` and ``masks`` without them.
    """
    if truth.get('ignored') is None:
        return target, masks
    counted = ~union_of_rles([truth['ignored']], tuple(target.shape))
    return target & counted, masks & counted.to(masks.device)


def mask_overlaps(masks: torch.Tensor, target: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Pixels that n masks share with one target, and that they cover together.

    Args:
        masks: (n, h, w) bool, on any device.
        target: (h, w) bool.

    Returns:
        Intersections and unions, (n,) int64 each.
    """
    # numpy counts flags many times faster than torch sums them on the CPU.
    flat, wanted = to_numpy(masks.bool()), to_numpy(target)
    shared = np.array([np.count_nonzero(mask & wanted) for mask in flat], dtype=np.int64)
    areas = np.array([np.count_nonzero(mask) for mask in flat], dtype=np.int64)
    return shared, areas + np.count_nonzero(wanted) - shared


def iou_or_zero(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    """Element-wise ratio, 0 where the union is empty."""
    return np.asarray(intersection, dtype=np.float64) / np.maximum(union, 1)


def index_ids(id_map: np.ndarray, ids: Sequence[int]) -> np.ndarray:
    """Replace the segment ids of a map by 1 + their position in ``ids``.

    Args:
        id_map: (h, w) ids, 0 being void.
        ids: n distinct ids in any order.

    Returns:
        (h, w) int64 in 0..n, 0 being void.

    Raises:
        ValueError: If the map has an id that is not listed, or an id is listed twice or is 0.
    """
    listed = np.asarray(ids, dtype=np.int64)
    if np.array_equal(listed, np.arange(1, len(listed) + 1)) and (
            id_map.size == 0 or (id_map.min() >= 0 and id_map.max() <= len(listed))):
        return id_map.astype(np.int64)
    known = np.concatenate((np.zeros(1, dtype=np.int64), listed))
    order = np.argsort(known, kind='stable')
    ranked = known[order]
    if (np.diff(ranked) == 0).any():
        raise ValueError(f'segment ids must be distinct and not 0, got {sorted(listed.tolist())}')
    place = np.searchsorted(ranked, id_map).clip(max=len(ranked) - 1)
    strangers = ranked[place] != id_map
    if strangers.any():
        raise ValueError('the map has segment ids that segments_info does not list: '
                         f'{np.unique(id_map[strangers])[:5].tolist()}')
    return order[place]


def count_pairs(first: np.ndarray, first_ids: Sequence[int], second: np.ndarray,
                second_ids: Sequence[int]) -> np.ndarray:
    """Count the pixels of every pair of segments of two maps of one image.

    Maps of 32 or 64 bits go through the compiled kernel where it is built.

    Args:
        first: (h, w) segment ids, 0 being void.
        first_ids: n distinct ids in any order.
        second: (h, w) segment ids, 0 being void.
        second_ids: m distinct ids in any order.

    Returns:
        (n + 1, m + 1) int64 pixels, void first.

    Raises:
        ValueError: If the sizes differ, a map has an id that is not listed, or an id is listed
            twice or is 0.
    """
    if first.shape != second.shape:
        raise ValueError(f'the maps have sizes {first.shape} and {second.shape}')
    first_ids = np.asarray(first_ids, dtype=np.int64)
    second_ids = np.asarray(second_ids, dtype=np.int64)
    counts = None
    if first.dtype in _KERNEL_TYPES and second.dtype in _KERNEL_TYPES:
        kernel = load_kernel()
        if kernel is not None:
            counts = kernel.count_pairs(
                np.ascontiguousarray(first), first_ids, np.ascontiguousarray(second), second_ids)
    # The kernel gives None for bad ids, which the numpy version names.
    return _count_runs(first, first_ids, second, second_ids) if counts is None else counts


def _count_runs(first: np.ndarray, first_ids: np.ndarray, second: np.ndarray,
                second_ids: np.ndarray) -> np.ndarray:
    """``count_pairs`` in numpy: there are far fewer runs of equal pixels than pixels."""
    rows, columns = len(first_ids) + 1, len(second_ids) + 1
    first, second = first.ravel(), second.ravel()
    changes = first[1:] != first[:-1]
    changes |= second[1:] != second[:-1]
    ends = np.append(np.flatnonzero(changes), first.size - 1)[:first.size]  # none in an empty map
    pair = index_ids(first[ends], first_ids) * columns
    pair += index_ids(second[ends], second_ids)
    counts = np.bincount(pair, np.diff(ends, prepend=-1), rows * columns)
    # Sums of pixels are whole numbers far below 2^53: the float weights lose nothing.
    return counts.astype(np.int64).reshape(rows, columns)


def joint_histogram(first: np.ndarray, second: np.ndarray, num_first: int,
                    num_second: int) -> np.ndarray:
    """Count the pixels of every pair of labels.

    Args:
        first: (h, w) ints in [0, num_first).
        second: (h, w) ints in [0, num_second).
        num_first: Number of values of the first map.
        num_second: Number of values of the second map.

    Returns:
        (num_first, num_second) int64.
    """
    joint = first.astype(np.int64).ravel() * num_second + second.ravel()
    counts = np.bincount(joint, minlength=num_first * num_second)
    return counts.reshape(num_first, num_second)
