# Copyright (c) mvp_mm authors. All rights reserved.
"""COCO average precision, without an annotation file."""
from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from mvp_mm.evaluation.base import (
    NothingToMeasureError,
    PerceptionMetric,
    checked_boxes,
    checked_masks,
    checked_scores,
    require,
)
from mvp_mm.evaluation.coco_eval import AREAS, BACKENDS, load_backend, precision_of
from mvp_mm.registry import METRICS
from mvp_mm.utils.arrays import to_numpy
from mvp_mm.utils.masks import encode_masks


@METRICS.register_module()
class CocoAPMetric(PerceptionMetric):
    """AP of boxes and masks over the thing phrases, by pycocotools' rules.

    At most 100 predictions count of each class in each image. Classes are told apart by phrase.
    Objects without a class (label -1) and stuff are left out on both sides. An object's size is
    the annotation's ``area``; where a file has none, its mask's in pixels, or its box's in
    box-only data. Images count in the order of their ids, which decides between equal scores.

    Args:
        iou_types: Which of ``'bbox'`` and ``'segm'``.
        backend: ``'faster_coco_eval'`` or ``'pycocotools'``, which agree.
        **kwargs: As for :class:`mmengine.evaluator.BaseMetric`.

    Reports ``coco/bbox_AP``, ``bbox_AP50``, ``bbox_AP75``, where there are objects of that size
    ``bbox_APs``, ``bbox_APm``, ``bbox_APl``, and the same for ``segm``.

    Raises:
        ValueError: If an IoU type or the backend is unknown.
    """

    default_prefix = 'coco'

    def __init__(self, iou_types: Sequence[str] = ('bbox', 'segm'),
                 backend: str = BACKENDS[0], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        load_backend(backend)
        self.backend = backend
        if not iou_types or not set(iou_types) <= {'bbox', 'segm'}:
            raise ValueError(f"iou_types must be among 'bbox' and 'segm', got {iou_types!r}")
        self.iou_types = tuple(iou_types)

    def measure(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        """Collect one image's objects in COCO's form.

        Raises:
            KeyError: If boxes, scores, labels or masks are missing.
            ValueError: If they do not fit together.
        """
        instruction = require(sample, 'instruction')
        height, width = map(int, sample['ori_shape'][:2])
        gt = require(sample, 'gt_eval')
        gt_names, gt_kept = _thing_names(instruction, require(sample, 'gt_eval', 'labels'))
        gt_boxes = checked_boxes(sample, gt['bboxes'])
        crowd = to_numpy(gt.get('crowd', np.zeros(len(gt_boxes)))).astype(bool)
        areas = object_areas(gt, gt_boxes)
        objects = [dict(name=name, bbox=_xywh(gt_boxes[k]), iscrowd=int(crowd[k]),
                        area=float(areas[k]))
                   for name, k in zip(gt_names, gt_kept, strict=True)]
        found = found_things(sample, with_masks='segm' in self.iou_types)
        if 'segm' in self.iou_types:
            rles = require(sample, 'gt_eval', 'masks')
            for target, k in zip(objects, gt_kept, strict=True):
                if tuple(rles[k]['size']) != (height, width):
                    raise ValueError(f"a ground-truth mask has size {rles[k]['size']}, the image "
                                     f'{(height, width)}')
                target['segmentation'] = rles[k]
        classes = list(itertools.compress(instruction.phrases, instruction.is_thing))
        return dict(image=sample.get('img_id', ''), size=(height, width), objects=objects,
                    found=found, classes=classes)

    def summarize(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Run COCOeval.

        Raises:
            NothingToMeasureError: If no image has a thing to find.
        """
        results = sorted(results, key=lambda result: _order(result['image']))
        classes = sorted({name for result in results for name in result['classes']})
        ids = {name: index + 1 for index, name in enumerate(classes)}
        truth = _to_coco(results, ids, 'objects')
        if all(target['iscrowd'] for target in truth['annotations']):
            raise NothingToMeasureError('no object in the ground truth')
        metrics: dict[str, float] = {}
        rows = {name: [name] for name in classes}
        for iou_type in self.iou_types:
            found = _to_coco(results, ids, 'found', size_of=iou_type)['annotations']
            by_area = precision_of(truth, found, iou_type, backend=self.backend)
            precision = by_area[..., 0]
            parts = dict(AP=precision, AP50=precision[0], AP75=precision[5])
            parts.update({f'AP{area[0]}': by_area[..., k] for k, area in enumerate(AREAS) if k})
            metrics.update({f'{iou_type}_{name}': float(part[part > -1].mean() * 100)
                            for name, part in parts.items() if (part > -1).any()})
            for column, name in enumerate(classes):
                valid = precision[..., column][precision[..., column] > -1]
                rows[name].append(float(valid.mean() * 100) if valid.size else '-')
        header = ['class', *(f'{iou_type} AP' for iou_type in self.iou_types)]
        self.log_table('Average precision', [header, *rows.values()])
        return metrics


def found_things(sample: Mapping[str, Any], with_masks: bool) -> list[dict[str, Any]]:
    """A sample's predictions of things: name, bbox (xywh), score, and segmentation (RLE).

    Raises:
        KeyError: If boxes, scores, labels or masks are missing.
        ValueError: If they do not fit together or are not finite.
    """
    names, kept = _thing_names(
        require(sample, 'instruction'), require(sample, 'pred_instances', 'labels'))
    boxes = checked_boxes(sample, require(sample, 'pred_instances', 'bboxes'))
    scores = checked_scores(sample, require(sample, 'pred_instances', 'scores'))
    found = [dict(name=name, bbox=_xywh(boxes[k]), score=float(scores[k]))
             for name, k in zip(names, kept, strict=True)]
    if with_masks:
        masks = checked_masks(sample, require(sample, 'pred_instances', 'masks'), len(boxes))
        for result, rle in zip(found, encode_masks(masks[kept]), strict=True):
            result['segmentation'] = rle
    return found


def _thing_names(instruction: Any, labels: Any) -> tuple[list[str], np.ndarray]:
    """The phrases of the thing labels, and their places in ``labels``."""
    labels = to_numpy(labels).astype(np.int64)
    if (labels >= len(instruction.phrases)).any():
        raise ValueError(f'labels must lie below {len(instruction.phrases)}, got {labels.max()}')
    is_thing = np.append(np.asarray(instruction.is_thing, dtype=bool), False)
    kept = np.flatnonzero(is_thing[np.maximum(labels, -1)])
    return [instruction.phrases[labels[k]] for k in kept], kept


def object_areas(truth: Mapping[str, Any], boxes: np.ndarray) -> np.ndarray:
    """The areas by which objects are small, medium or large.

    Args:
        truth: ``areas`` (n,) of the annotations, NaN where unknown, and n ``masks`` (RLE), each
            where there are any.
        boxes: (n, 4) xyxy.

    Returns:
        (n,) float64: the annotation's area, else the mask's in pixels, else the box's.
    """
    own = np.asarray(truth.get('areas', np.full(len(boxes), np.nan)), dtype=np.float64)
    others = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    if truth.get('masks') and not np.isfinite(own).all():
        others = coco_mask.area(list(truth['masks'])).astype(np.float64)
    return np.where(np.isfinite(own), own, others)


def _order(ident: Any) -> tuple[bool, Any]:
    """Numbers by their size, before texts."""
    return isinstance(ident, str), ident


def _xywh(box: np.ndarray) -> list[float]:
    return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]


def _to_coco(results: list[dict[str, Any]], ids: dict[str, int], key: str,
             size_of: str = 'segm') -> dict[str, Any]:
    """Lay the images' objects out as a COCO dataset; predictions have the size of mask or box."""
    annotations: list[dict[str, Any]] = []
    for image_id, result in enumerate(results, start=1):
        for item in result[key]:
            rle = item.get('segmentation')
            by_box = rle is None or size_of == 'bbox'
            area = item['bbox'][2] * item['bbox'][3] if by_box else coco_mask.area(rle)
            annotations.append({
                'area': float(area), 'iscrowd': 0, **item, 'id': len(annotations) + 1,
                'image_id': image_id, 'category_id': ids[item['name']]})
    images = [dict(id=k, height=result['size'][0], width=result['size'][1])
              for k, result in enumerate(results, start=1)]
    categories = [dict(id=number, name=name) for name, number in ids.items()]
    return dict(info={}, images=images, categories=categories, annotations=annotations)
