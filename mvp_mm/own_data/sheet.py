# Copyright (c) mvp_mm authors. All rights reserved.
"""A contact sheet of labels, to see at once whether boxes, masks and names are right."""
from __future__ import annotations

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from mvp_mm.own_data.labels import LabeledDataset, LabeledImage
from mvp_mm.utils.images import read_image
from mvp_mm.utils.masks import to_rle
from mvp_mm.visualization import PerceptionVisualizer
from mvp_mm.visualization.drawing import justified_sheet

_SIDE = 480


def draw_sheet(dataset: LabeledDataset, number: int = 9, columns: int = 3,
               seed: int = 0) -> np.ndarray:
    """Draw some images with their objects.

    Args:
        dataset: The dataset.
        number: Images to draw; those with objects first.
        columns: Landscapes side by side; rows are filled whatever the images' shapes.
        seed: Seed of the draw.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    rng = np.random.default_rng(seed)
    order = sorted(rng.permutation(len(dataset.images)).tolist(),
                   key=lambda k: not dataset.images[k].objects)
    visualizer = PerceptionVisualizer(name='own_data', least_side=_SIDE)
    pictures = [_draw(dataset.images[k], dataset.classes, visualizer) for k in order[:number]]
    return justified_sheet(pictures, _SIDE * min(columns, len(pictures)), round(0.75 * _SIDE))


def _draw(image: LabeledImage, classes: list[str],
          visualizer: PerceptionVisualizer) -> np.ndarray:
    pixels = np.ascontiguousarray(read_image(image.path)[..., ::-1])
    names = [o.label if not o.expressions else o.expressions[0] for o in image.objects]
    # Of all classes, so that a class has one colour on the whole sheet.
    phrases = list(dict.fromkeys([*classes, *names]))
    boxes = np.array([o.box for o in image.objects], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    masks = None
    if image.objects and all(o.segmentation is not None for o in image.objects):
        masks = np.stack([
            coco_mask.decode(to_rle(o.segmentation, image.height, image.width, str(image.path)))
            for o in image.objects]).astype(bool)
    scale = _SIDE / max(pixels.shape[:2])
    if scale < 1:
        size = max(round(pixels.shape[1] * scale), 1), max(round(pixels.shape[0] * scale), 1)
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        boxes *= scale
        if masks is not None:
            masks = np.stack([cv2.resize(mask.astype(np.uint8), size,
                                         interpolation=cv2.INTER_NEAREST) for mask in masks]) > 0
    labels = np.array([phrases.index(name) for name in names], dtype=int)
    return visualizer.draw_objects(pixels, boxes, masks, labels, None, phrases)
