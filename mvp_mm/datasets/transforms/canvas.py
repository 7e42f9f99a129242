# Copyright (c) mvp_mm authors. All rights reserved.
"""Padding to the network's canvas."""
from __future__ import annotations

from typing import Any

import numpy as np
from mmdet.structures.mask import BitmapMasks

from mvp_mm.registry import TRANSFORMS
from mvp_mm.utils.noise import import_quietly

Pad = import_quietly('mmdet.datasets.transforms').Pad


@TRANSFORMS.register_module()
class PadToCanvas(Pad):
    """mmdet's ``Pad``, with ``img_shape`` left as the shape of the image inside the canvas.

    Masks are padded all at once. Arguments: see :class:`mmdet.datasets.transforms.Pad`.
    """

    def _pad_masks(self, results: dict[str, Any]) -> None:
        masks = results.get('gt_masks')
        if masks is None:
            return
        height, width = results['pad_shape'][:2]
        if not isinstance(masks, BitmapMasks):
            results['gt_masks'] = masks.pad((height, width))
            return
        padded = np.zeros((len(masks), height, width), dtype=np.uint8)
        padded[:, :masks.height, :masks.width] = masks.masks
        results['gt_masks'] = BitmapMasks(padded, height, width)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pad image and masks.

        Raises:
            ValueError: If the image is larger than the canvas.
        """
        image_shape = results['img'].shape[:2]
        if self.size is not None and (image_shape[0] > self.size[1]
                                      or image_shape[1] > self.size[0]):
            raise ValueError(f'{results.get("img_path")}: image of (h, w) {image_shape} does not '
                             f'fit the canvas of (w, h) {self.size}')
        results = super().transform(results)
        results['img_shape'] = image_shape
        return results
