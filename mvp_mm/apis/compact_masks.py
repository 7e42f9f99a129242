# Copyright (c) mvp_mm authors. All rights reserved.
"""Holds masks in little memory: run lengths or regions of one map, decoded when asked for."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from pycocotools import mask as coco_mask

from mvp_mm.utils.masks import encode_masks


class CompactMasks(Protocol):
    """n masks of one image, decoded one at a time."""

    def __len__(self) -> int:
        """Count the masks."""

    def __getitem__(self, index: int) -> np.ndarray:
        """Decode one mask, (h, w) bool."""

    def rle(self, index: int) -> dict[str, Any]:
        """Give one mask as a COCO RLE dict with text counts."""


class RleMasks:
    """Masks as run lengths.

    Args:
        rles: n COCO RLE dicts.
    """

    def __init__(self, rles: Sequence[dict[str, Any]]) -> None:
        self._rles = [_as_text(rle) for rle in rles]

    def __len__(self) -> int:
        return len(self._rles)

    def __getitem__(self, index: int) -> np.ndarray:
        rle = self._rles[index]
        return coco_mask.decode(dict(rle, counts=rle['counts'].encode())).astype(bool)

    def rle(self, index: int) -> dict[str, Any]:
        """See :class:`CompactMasks`."""
        return dict(self._rles[index])


class RegionMasks:
    """Masks as regions of one map.

    Args:
        regions: (h, w) of whole numbers.
        ids: The number of each of the n regions.
    """

    def __init__(self, regions: np.ndarray, ids: Sequence[int]) -> None:
        self._regions, self._ids = regions, list(ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._regions == self._ids[index]

    def rle(self, index: int) -> dict[str, Any]:
        """See :class:`CompactMasks`."""
        return _encode(self[index])


def _encode(mask: np.ndarray) -> dict[str, Any]:
    rle, = encode_masks(mask[None])
    return _as_text(rle)


def _as_text(rle: dict[str, Any]) -> dict[str, Any]:
    return dict(size=[int(side) for side in rle['size']], counts=rle['counts'].decode())
