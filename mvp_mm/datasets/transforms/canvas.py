# Copyright (c) mvp_mm authors. All rights reserved.
"""Resizes images to fit the network's canvas and pads them to it."""
from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import mmcv
import numpy as np
from mmdet.structures.mask import BitmapMasks

from mvp_mm.registry import TRANSFORMS
from mvp_mm.utils.noise import import_quietly

_mmdet = import_quietly('mmdet.datasets.transforms')


def fitting_size(height: int, width: int, canvas: tuple[int, int]) -> tuple[int, int]:
    """Size at which an image just fits into a canvas, at least one pixel on each side.

    Args:
        height: Of the image.
        width: Of the image.
        canvas: (w, h); a portrait image in a landscape canvas is bound by the canvas's height.

    Returns:
        (w, h).
    """
    factor = min(canvas[0] / width, canvas[1] / height)
    # Rounded as mmcv does.
    return max(int(width * factor + 0.5), 1), max(int(height * factor + 0.5), 1)


@TRANSFORMS.register_module()
class Resize(_mmdet.Resize):
    """Does what mmdet's ``Resize`` does, and leaves at least one pixel on each side.

    With the aspect ratio kept, mmdet's own stops at an image whose short side would shrink below
    half a pixel. Configs that say ``mmdet.Resize`` get this one. Arguments: see
    :class:`mmdet.datasets.transforms.Resize`.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resize image, boxes, masks and semantic map."""
        shape = results['img'].shape[1::-1]
        size = self.scale or tuple(
            int(side * factor + 0.5) for side, factor in zip(shape, self.scale_factor, strict=True))
        if self.keep_ratio and min(size) >= 1:
            size = mmcv.rescale_size(shape, size)
        if min(size) >= 1:
            return super().transform(results)
        at_least_one = copy.copy(self)
        at_least_one.scale = tuple(max(side, 1) for side in size)
        at_least_one.keep_ratio = False
        return at_least_one.transform(results)


@TRANSFORMS.register_module()
class ResizeToCanvas(_mmdet.Resize):
    """mmdet's ``Resize`` with the aspect ratio kept, for images of any shape.

    An image so narrow that its short side would shrink below half a pixel keeps one pixel there;
    mmdet's own transform stops at it. On a square canvas all other images, boxes and masks are
    those of ``mmdet.Resize(scale, keep_ratio=True)``; on any other, mmdet's lets the longer side of
    the image go with the longer one of the canvas, so that a portrait image would leave a
    landscape canvas.

    Args:
        scale: Canvas (w, h) that the image is to fit.
        **kwargs: See :class:`mmdet.datasets.transforms.Resize`, without ``keep_ratio``.
    """

    def __init__(self, scale: Sequence[int], **kwargs: Any) -> None:
        # The size that is set below keeps the ratio.
        super().__init__(scale=tuple(scale), keep_ratio=False, **kwargs)

    def _resize_img(self, results: dict[str, Any]) -> None:
        results['scale'] = fitting_size(*results['img'].shape[:2], self.scale)
        super()._resize_img(results)


@TRANSFORMS.register_module()
class PadToCanvas(_mmdet.Pad):
    """mmdet's ``Pad``, with ``img_shape`` left as the shape of the image inside the canvas.

    Masks are padded all at once. Arguments: see :class:`mmdet.datasets.transforms.Pad`; values per
    channel may be lists, as in the JSON config of a published model.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pad_val = {key: tuple(value) if isinstance(value, list) else value
                        for key, value in self.pad_val.items()}

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
