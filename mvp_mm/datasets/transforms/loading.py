# Copyright (c) mvp_mm authors. All rights reserved.
"""Loads images, boxes and masks."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmdet.structures.mask.structures import BaseInstanceMasks

from mvp_mm.datasets.indexing.box_faults import BOX_FAULTS, corner_faults
from mvp_mm.datasets.transforms.segment_map import SegmentMapMasks
from mvp_mm.registry import TRANSFORMS
from mvp_mm.utils.images import decode_image
from mvp_mm.utils.masks import number_segments, read_segment_map, rle_masks, to_rle


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Reads the image file (see :func:`~mvp_mm.utils.images.decode_image`).

    Required keys: ``img_path``, ``img_id``, and ``apply_exif`` where the dataset's annotations
    count the stored pixels (see :class:`~mvp_mm.datasets.base.PerceptionDataset`). Added keys:
    ``img`` (h, w, 3) uint8 BGR, ``img_shape`` and ``ori_shape`` (h, w).
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Load the image.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not a whole image, or datasets that are asked together disagree
                about ``apply_exif``.
        """
        apply_exif = results.get('apply_exif', True)
        if any(part.get('apply_exif', True) != apply_exif for part in results.get('parts', ())):
            raise ValueError(f'{results["img_path"]}: datasets that are asked together must have '
                             'the same apply_exif')
        name = f'{results["img_path"]} (image {results["img_id"]})'
        results['img'] = decode_image(self.read_file(results, name), name, apply_exif)
        results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        return results

    def read_file(self, results: dict[str, Any], name: str) -> bytes:
        """Content of the image file.

        Raises:
            FileNotFoundError: If there is no such file, calling it ``name``.
            OSError: If it cannot be read, calling it ``name``.
        """
        try:
            return Path(results['img_path']).read_bytes()
        except FileNotFoundError as error:
            raise FileNotFoundError(f'{name} does not exist') from error
        except OSError as error:
            raise OSError(f'{name} cannot be read: {error.strerror}') from error


@TRANSFORMS.register_module()
class LoadPerceptionAnnotations(BaseTransform):
    """Boxes and masks of the objects that the requests need.

    Comes after the image is read. Required keys: ``img``, ``annotation``, ``boxes``, and
    ``objects`` where not all are needed. Added keys:

    - ``gt_bboxes``: m boxes, and ``gt_masks``: m masks, absent for box-only data; segments of a
      panoptic map stay a map (:class:`SegmentMapMasks`) as long as they can.
    - ``gt_bboxes_labels``: (m,) int64 *object indices*, under the name that mmdet's transforms
      keep in step with the boxes.
    - ``num_objects``: number of the annotation's objects, of all parts.
    - ``original``: what evaluation needs of the image as it is stored: ``objects`` (m,),
      ``boxes`` (m, 4), and ``masks`` as above or None.
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
            self._check_boxes(part, boxes, objects, shape)
            loaded.append((objects + offset, boxes[objects], self._masks(part, objects, shape)))
            offset += len(boxes)
        objects, boxes, masks = self._joined(loaded, results['img_path'])
        results['num_objects'] = offset
        results['gt_bboxes'] = HorizontalBoxes(torch.from_numpy(boxes), clone=True)
        results['gt_bboxes_labels'] = objects
        if masks is not None:
            results['gt_masks'] = masks
        results['original'] = dict(objects=objects, boxes=boxes, masks=masks)
        return results

    @staticmethod
    def _joined(loaded: list[tuple],
                path: str) -> tuple[np.ndarray, np.ndarray, BaseInstanceMasks | None]:
        if len(loaded) == 1:
            return loaded[0]
        objects, boxes, masks = zip(*loaded, strict=True)
        if any(m is None for m in masks):
            raise TypeError(f'{path}: box-only data cannot be joined with data that has masks')
        bitmaps = np.concatenate([m.to_ndarray() for m in masks])
        return (np.concatenate(objects), np.concatenate(boxes),
                BitmapMasks(bitmaps, *bitmaps.shape[1:]))

    @staticmethod
    def _check_boxes(results: dict[str, Any], boxes: np.ndarray, objects: np.ndarray,
                     shape: tuple[int, int]) -> None:
        chosen = boxes[objects]
        faults = corner_faults(chosen, *shape)
        if faults.any():
            first = int(np.argmax(faults > 0))
            raise ValueError(
                f'{results["annotation"].source} (image {results["img_id"]}): object '
                f'{objects[first]} has the box {chosen[first].tolist()} (xyxy): '
                f'{BOX_FAULTS[faults[first]]}')

    def _check_shape(self, results: dict[str, Any], shape: tuple[int, int]) -> None:
        annotated = (results.get('height', shape[0]), results.get('width', shape[1]))
        if annotated != shape:
            raise ValueError(f'{results["img_path"]} is {shape} (h, w), its annotation in '
                             f'{results["annotation"].source} (image {results["img_id"]}) says '
                             f'{annotated}')

    def _masks(self, results: dict[str, Any], objects: np.ndarray,
               shape: tuple[int, int]) -> BaseInstanceMasks | None:
        if 'panoptic_path' in results:
            path = results['panoptic_path']
            name = f'{path} (image {results["img_id"]})'
            segment_map = read_segment_map(path)
            if segment_map.shape != shape:
                raise ValueError(f'{name} is {segment_map.shape} (h, w), its image is {shape}')
            return SegmentMapMasks(
                number_segments(segment_map, results.pop('segment_ids'), name), objects + 1)
        if 'segmentations' in results:
            source = f'{results["annotation"].source} (image {results["img_id"]})'
            segmentations = results.pop('segmentations')
            ids = results.get('ann_ids', range(len(segmentations)))
            rles = [to_rle(segmentations[i], *shape, f'{source}, annotation {ids[i]}')
                    for i in objects]
            return BitmapMasks(rle_masks(rles, *shape), *shape)
        return None
