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

BOX_FAULTS = ('', 'not finite', 'negative size', 'no area', 'outside the image')
# What a check calls them.
FAULT_KINDS = ('', 'box not finite', 'reversed box', 'box without area', 'box outside the image')
# `image`: row of the image; `box`: as it stands in the file.
BAD_BOX = np.dtype([('ident', '<i8'), ('image', '<i4'), ('reason', 'i1'), ('box', '<f8', 4)])
_EXAMPLES = 10
_BLOCK = 1 << 16


def box_faults(boxes: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """What is wrong with boxes.

    Args:
        boxes: (n, 4) xywh.
        heights: (n,) of their images.
        widths: (n,) of their images.

    Returns:
        (n,) positions in ``BOX_FAULTS``, 0 for a box with area inside its image.
    """
    x, y, w, h = np.asarray(boxes, dtype=np.float64).reshape(-1, 4).T
    with np.errstate(invalid='ignore'):
        inside_w = np.minimum(x + w, widths) - np.maximum(x, 0)
        inside_h = np.minimum(y + h, heights) - np.maximum(y, 0)
        return np.select(
            [~(np.isfinite(x) & np.isfinite(y) & np.isfinite(w) & np.isfinite(h)),
             (w < 0) | (h < 0), (w == 0) | (h == 0), ~((inside_w > 0) & (inside_h > 0))],
            [1, 2, 3, 4], 0)


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
