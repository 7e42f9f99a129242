# Copyright (c) mvp_mm authors. All rights reserved.
"""Boxes that cannot be used: one rule for every reader."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from mvp_mm.datasets.indexing.store import FileRows
from mvp_mm.utils.faults import Faults
from mvp_mm.utils.records import MAX_COORDINATE

BOX_FAULTS = ('', 'not finite', 'negative size', 'no area', 'outside the image',
              f'beyond {MAX_COORDINATE} pixels')
# What a check calls them.
FAULT_KINDS = ('', 'box not finite', 'reversed box', 'box without area', 'box outside the image',
               'box far outside the image')
# `image`: row of the image; `box`: as it stands in the file.
BAD_BOX = np.dtype([('ident', '<i8'), ('image', '<i4'), ('reason', 'i1'), ('box', '<f8', 4)])
_EXAMPLES = 10
_BLOCK = 1 << 16


def to_corners(boxes: np.ndarray) -> np.ndarray:
    """Boxes as datasets store them.

    Args:
        boxes: (n, 4) float64 xywh.

    Returns:
        (n, 4) float32 xyxy, added before they are rounded.
    """
    corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    with np.errstate(over='ignore', invalid='ignore'):
        corners[:, 2:] += corners[:, :2]
        return corners.astype(np.float32)


def corner_faults(corners: np.ndarray, heights: np.ndarray | int,
                  widths: np.ndarray | int) -> np.ndarray:
    """Find unusable boxes in the type in which they are stored.

    Args:
        corners: (n, 4) float32 xyxy.
        heights: (n,) of their images, or one for all.
        widths: (n,) of their images, or one for all.

    Returns:
        (n,) positions in ``BOX_FAULTS``, 0 for a box with area inside its image.
    """
    x1, y1, x2, y2 = np.asarray(corners, dtype=np.float64).reshape(-1, 4).T
    with np.errstate(invalid='ignore'):
        inside = (np.minimum(x2, widths) > np.maximum(x1, 0)) & (
            np.minimum(y2, heights) > np.maximum(y1, 0))
        finite = np.isfinite(x1) & np.isfinite(y1) & np.isfinite(x2) & np.isfinite(y2)
        far = np.maximum(np.maximum(-x1, -y1), np.maximum(x2, y2)) > MAX_COORDINATE
        return np.select(
            [~finite, (x2 < x1) | (y2 < y1), (x2 == x1) | (y2 == y1), ~inside, far],
            [1, 2, 3, 4, 5], 0)


def box_faults(boxes: np.ndarray, heights: np.ndarray | int,
               widths: np.ndarray | int) -> np.ndarray:
    """Find unusable boxes, as :func:`corner_faults` does in what is stored of them.

    Args:
        boxes: (n, 4) float64 xywh.
        heights: (n,) of their images, or one for all.
        widths: (n,) of their images, or one for all.

    Returns:
        (n,) positions in ``BOX_FAULTS``, 0 for a box with area inside its image.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    reasons = corner_faults(to_corners(boxes), heights, widths)
    # A small negative size is lost when it is added to a corner.
    negative = (boxes[:, 2:] < 0).any(axis=1) & (reasons != 1)
    return np.where(negative, 2, reasons)


class BadBoxes:
    """The unusable boxes of an annotation file.

    Args:
        total: Number of boxes looked at.
        rows: Their rows, of type ``BAD_BOX``.
        name_of: Name of a row's record in messages.
    """

    def __init__(self, total: int, rows: np.ndarray | FileRows,
                 name_of: Callable[[np.void], str]) -> None:
        self.total = total
        self.rows = rows
        self.name_of = name_of

    def __len__(self) -> int:
        return len(self.rows)

    def blocks(self) -> Iterator[np.ndarray]:
        """The rows, some at a time."""
        for start in range(0, len(self.rows), _BLOCK):
            yield self.rows[start:start + _BLOCK]

    def __iter__(self) -> Iterator[tuple[int, str, list[float]]]:
        """Position in ``BOX_FAULTS``, the record's name and the box, of each."""
        for block in self.blocks():
            for row in block:
                yield int(row['reason']), self.name_of(row), row['box'].tolist()

    def only(self, idents: Sequence[int] | np.ndarray) -> BadBoxes:
        """Those among some records."""
        chosen = [block[np.isin(block['ident'], idents)] for block in self.blocks()]
        rows = np.concatenate([np.zeros(0, dtype=BAD_BOX), *chosen])
        return BadBoxes(len(idents), rows, self.name_of)

    def describe(self) -> str:
        """Their number by reason, with examples."""
        counts = sum((np.bincount(block['reason'], minlength=len(BOX_FAULTS))
                      for block in self.blocks()), np.zeros(len(BOX_FAULTS), dtype=np.int64))
        reasons = ', '.join(f'{count} {reason}'
                            for count, reason in zip(counts, BOX_FAULTS, strict=True) if count)
        examples = '; '.join(f'{where}: box {box}: {BOX_FAULTS[reason]}'
                             for reason, where, box in islice(self, _EXAMPLES))
        more = '; …' if len(self) > _EXAMPLES else ''
        return f'{len(self)} of {self.total} boxes cannot be used ({reasons}): {examples}{more}'


def report_bad_boxes(bad: BadBoxes, faults: Faults, test_mode: bool, max_share: float) -> None:
    """An error in evaluation; in training the boxes are left out, counted and logged.

    Args:
        bad: The boxes.
        faults: Takes them one by one where it collects faults.
        test_mode: Whether they are an error.
        max_share: Largest share of them in training; the first ten are always let through.

    Raises:
        ValueError: In evaluation if there are any, in training if there are too many.
    """
    if faults.collects:
        for reason, where, box in bad:
            faults(FAULT_KINDS[reason], where, str(box))
        return
    if not len(bad):
        return
    if test_mode:
        raise ValueError(f'{faults.path}: {bad.describe()}')
    if len(bad) > max(_EXAMPLES, max_share * bad.total):
        raise ValueError(f'{faults.path}: more than max_bad_share={max_share:g}: {bad.describe()}')
    print_log(f'{Path(faults.path).name}: left out: {bad.describe()}', logger='current')
