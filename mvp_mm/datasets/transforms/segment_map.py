# Copyright (c) mvp_mm authors. All rights reserved.
"""Keeps masks that do not overlap as one map of numbers until bitmaps are needed."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import mmcv
import numpy as np
import torch
from mmdet.structures.bbox import BaseBoxes
from mmdet.structures.mask import BitmapMasks
from mmdet.structures.mask.structures import BaseInstanceMasks


class SegmentMapMasks(BaseInstanceMasks):
    """n masks as a map of their numbers, for mmdet's transforms.

    What is done to a map with nearest-neighbour sampling is what would be done to each bitmap,
    at the price of one. Operations that mmdet gives bitmaps only are left to them.

    Args:
        segment_map: (h, w) uint8 or uint16, 0 outside all masks.
        numbers: (n,) the value of each mask in the map.
    """

    def __init__(self, segment_map: np.ndarray, numbers: np.ndarray) -> None:
        self.map = segment_map
        self.numbers = np.asarray(numbers, dtype=segment_map.dtype)
        self.height, self.width = segment_map.shape

    def __len__(self) -> int:
        return len(self.numbers)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(num_masks={len(self)}, size={self.map.shape})'

    def __getitem__(self, index: Any) -> SegmentMapMasks:
        return SegmentMapMasks(self.map, self.numbers[index].reshape(-1))

    def _with(self, segment_map: np.ndarray) -> SegmentMapMasks:
        return SegmentMapMasks(segment_map, self.numbers)

    @property
    def areas(self) -> np.ndarray:
        """(n,) pixels of each mask."""
        return count_values(self.map)[self.numbers]

    def rescale(self, scale: float | tuple[int, int],
                interpolation: str = 'nearest') -> SegmentMapMasks:
        """See mmdet's masks; the only interpolation is ``'nearest'``."""
        self._need_nearest(interpolation)
        size = mmcv.image.geometric.rescale_size((self.width, self.height), scale)
        return self.resize((max(size[1], 1), max(size[0], 1)))

    def resize(self, out_shape: tuple[int, int],
               interpolation: str = 'nearest') -> SegmentMapMasks:
        """See mmdet's masks; the only interpolation is ``'nearest'``."""
        self._need_nearest(interpolation)
        return self._with(mmcv.imresize(self.map, out_shape[::-1], interpolation='nearest'))

    @staticmethod
    def _need_nearest(interpolation: str) -> None:
        if interpolation != 'nearest':
            raise ValueError(f'Segment numbers cannot be interpolated ({interpolation})')

    def flip(self, flip_direction: str = 'horizontal') -> SegmentMapMasks:
        """See mmdet's masks."""
        return self._with(np.ascontiguousarray(mmcv.imflip(self.map, flip_direction)))

    def pad(self, out_shape: tuple[int, int], pad_val: int = 0) -> SegmentMapMasks:
        """See mmdet's masks; padding belongs to no mask."""
        if pad_val != 0:
            raise ValueError(f'Padding belongs to no mask, got pad_val={pad_val}')
        padded = np.zeros(out_shape, dtype=self.map.dtype)
        padded[:self.height, :self.width] = self.map
        return self._with(padded)

    def crop(self, bbox: np.ndarray) -> SegmentMapMasks:
        """See mmdet's masks."""
        left, top, right, bottom = np.maximum(np.asarray(bbox, dtype=int), 0).tolist()
        return self._with(np.ascontiguousarray(self.map[top:bottom, left:right]))

    @classmethod
    def cat(cls, masks: Sequence[SegmentMapMasks]) -> BitmapMasks:
        """See mmdet's bitmaps."""
        return BitmapMasks.cat([m.to_bitmaps() for m in masks])

    def to_bitmaps(self) -> BitmapMasks:
        """The same masks as bitmaps."""
        return BitmapMasks(self.to_ndarray(), self.height, self.width)

    def to_ndarray(self) -> np.ndarray:
        """(n, h, w) uint8."""
        return (self.map == self.numbers[:, None, None]).view(np.uint8)

    def to_tensor(self, dtype: torch.dtype, device: torch.device | str) -> torch.Tensor:
        """(n, h, w) tensor."""
        return self.to_bitmaps().to_tensor(dtype, device)

    def get_bboxes(self, dst_type: str = 'hbb') -> BaseBoxes:
        """See mmdet's masks."""
        return self.to_bitmaps().get_bboxes(dst_type)

    def crop_and_resize(self, *args: Any, **kwargs: Any) -> BitmapMasks:
        """See mmdet's bitmaps."""
        return self.to_bitmaps().crop_and_resize(*args, **kwargs)

    def expand(self, *args: Any, **kwargs: Any) -> BitmapMasks:
        """See mmdet's bitmaps."""
        return self.to_bitmaps().expand(*args, **kwargs)

    def translate(self, *args: Any, **kwargs: Any) -> BitmapMasks:
        """See mmdet's bitmaps."""
        return self.to_bitmaps().translate(*args, **kwargs)

    def shear(self, *args: Any, **kwargs: Any) -> BitmapMasks:
        """See mmdet's bitmaps."""
        return self.to_bitmaps().shear(*args, **kwargs)

    def rotate(self, *args: Any, **kwargs: Any) -> BitmapMasks:
        """See mmdet's bitmaps."""
        return self.to_bitmaps().rotate(*args, **kwargs)


def count_values(label_map: np.ndarray) -> np.ndarray:
    """How often each value occurs in a uint8 or uint16 map, (256,) or (65536,) int64."""
    values = 1 << (8 * label_map.itemsize)
    counts = cv2.calcHist([label_map], [0], None, [values], [0, values])
    # Sums of up to 2^24 pixels are exact in float32.
    return counts.reshape(-1).astype(np.int64)
