# Copyright (c) mvp_mm authors. All rights reserved.
"""Loading of boxes and masks."""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks

from mvp_mm.datasets.transforms.masks import read_segment_map, rle_masks, segment_masks, to_rle
from mvp_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadPerceptionAnnotations(BaseTransform):
    """Boxes and masks of the objects that the requests need.

    Comes after the image is read. Required keys: ``img``, ``annotation``, ``boxes``, and
    ``objects`` where not all are needed. Added keys:

    - ``gt_bboxes``: m boxes, and ``gt_masks``: m bitmaps, absent for box-only data.
    - ``gt_bboxes_labels``: (m,) int64 *object indices*, under the name that mmdet's transforms
      keep in step with the boxes.
    - ``num_objects``: number of the annotation's objects, of all parts.
    - ``original``: what evaluation needs of the image as it is stored: ``objects`` (m,),
      ``boxes`` (m, 4), and ``masks`` or None.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Load the annotations.

        Raises:
            ValueError: If image, masks and annotation do not fit together.
        """
        shape = results['img'].shape[:2]
        loaded = []
        offset = 0
        for part in results.get('parts') or [results]:
            self._check_shape(part, shape)
            boxes = part.pop('boxes')
            objects = part.get('objects', np.arange(len(boxes)))
            loaded.append((objects + offset, boxes[objects], self._masks(part, objects, shape)))
            offset += len(boxes)
        objects, boxes, masks = self._joined(loaded, results['img_path'])
        results['num_objects'] = offset
        results['gt_bboxes'] = HorizontalBoxes(torch.from_numpy(boxes), clone=True)
        results['gt_bboxes_labels'] = objects
        if masks is not None:
            results['gt_masks'] = BitmapMasks(masks, *shape)
        results['original'] = dict(objects=objects, boxes=boxes, masks=masks)
        return results

    @staticmethod
    def _joined(loaded: list[tuple], path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        if len(loaded) == 1:
            return loaded[0]
        objects, boxes, masks = zip(*loaded, strict=True)
        if any(m is None for m in masks):
            raise ValueError(f'{path}: box-only data cannot be joined with data that has masks')
        return np.concatenate(objects), np.concatenate(boxes), np.concatenate(masks)

    def _check_shape(self, results: dict[str, Any], shape: tuple[int, int]) -> None:
        annotated = (results.get('height', shape[0]), results.get('width', shape[1]))
        if annotated != shape:
            raise ValueError(f'{results["img_path"]} is {shape} (h, w), its annotation in '
                             f'{results["annotation"].source} says {annotated}')

    def _masks(self, results: dict[str, Any], objects: np.ndarray,
               shape: tuple[int, int]) -> np.ndarray | None:
        if 'panoptic_path' in results:
            path = results['panoptic_path']
            segment_map = read_segment_map(path)
            if segment_map.shape != shape:
                raise ValueError(f'{path} is {segment_map.shape} (h, w), its image is {shape}')
            masks = segment_masks(segment_map, results.pop('segment_ids'), path)
            return masks if len(objects) == len(masks) else masks[objects]
        if 'segmentations' in results:
            source = results['annotation'].source
            segmentations = results.pop('segmentations')
            rles = [to_rle(segmentations[i], *shape, f'{source}, object {i}') for i in objects]
            return rle_masks(rles, *shape)
        return None
