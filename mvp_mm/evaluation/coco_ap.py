# Copyright (c) mvp_mm authors. All rights reserved.
"""COCO average precision, without an annotation file."""
from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mvp_mm.evaluation.base import (
    PerceptionMetric,
    checked_boxes,
    checked_masks,
    checked_scores,
    require,
)
from mvp_mm.evaluation.overlaps import encode_masks, to_numpy
from mvp_mm.registry import METRICS


@METRICS.register_module()
class CocoAPMetric(PerceptionMetric):
    """AP of boxes and masks over the thing phrases, by pycocotools.

    Classes are told apart by phrase. Objects without a class (label -1) and stuff are left out
    on both sides.

    Args:
        iou_types: Which of ``'bbox'`` and ``'segm'``.
        **kwargs: As for :class:`mmengine.evaluator.BaseMetric`.

    Reports ``coco/bbox_AP``, ``bbox_AP50``, ``bbox_AP75`` and the same for ``segm``.

    Raises:
        ValueError: If an IoU type is unknown.
    """

    default_prefix = 'coco'

    def __init__(self, iou_types: Sequence[str] = ('bbox', 'segm'), **kwargs: Any) -> None:
        super().__init__(**kwargs)
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
        gt, pred = require(sample, 'gt_eval'), require(sample, 'pred_instances')
        gt_names, gt_kept = _thing_names(instruction, require(sample, 'gt_eval', 'labels'))
        names, kept = _thing_names(instruction, require(sample, 'pred_instances', 'labels'))
        boxes = checked_boxes(sample, pred['bboxes'])
        scores = checked_scores(sample, pred['scores'])
        gt_boxes = checked_boxes(sample, gt['bboxes'])
        crowd = to_numpy(gt.get('crowd', np.zeros(len(gt_boxes)))).astype(bool)
        objects = [dict(name=name, bbox=_xywh(gt_boxes[k]), iscrowd=int(crowd[k]))
                   for name, k in zip(gt_names, gt_kept, strict=True)]
        found = [dict(name=name, bbox=_xywh(boxes[k]), score=float(scores[k]))
                 for name, k in zip(names, kept, strict=True)]
        if 'segm' in self.iou_types:
            masks = checked_masks(sample, require(sample, 'pred_instances', 'masks'), len(boxes))
            for result, rle in zip(found, encode_masks(masks[kept]), strict=True):
                result['segmentation'] = rle
            rles = require(sample, 'gt_eval', 'masks')
            for target, k in zip(objects, gt_kept, strict=True):
                if tuple(rles[k]['size']) != (height, width):
                    raise ValueError(f"a ground-truth mask has size {rles[k]['size']}, the image "
                                     f'{(height, width)}')
                target['segmentation'] = rles[k]
        classes = list(itertools.compress(instruction.phrases, instruction.is_thing))
        return dict(size=(height, width), objects=objects, found=found, classes=classes)

    def summarize(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Run COCOeval.

        Raises:
            ValueError: If no image has a thing to find.
        """
        classes = sorted({name for result in results for name in result['classes']})
        ids = {name: index + 1 for index, name in enumerate(classes)}
        truth, found = _to_coco(results, ids, 'objects'), _to_coco(results, ids, 'found')
        if not any(not target['iscrowd'] for target in truth['annotations']):
            raise ValueError('CocoAPMetric: no object in the ground truth')
        metrics: dict[str, float] = {}
        rows = {name: [name] for name in classes}
        for iou_type in self.iou_types:
            with contextlib.redirect_stdout(io.StringIO()):
                precision = _evaluate(truth, found, iou_type)
            for name, value in (('AP', None), ('AP50', 0), ('AP75', 5)):
                part = precision if value is None else precision[value]
                metrics[f'{iou_type}_{name}'] = float(part[part > -1].mean() * 100)
            for column, name in enumerate(classes):
                valid = precision[..., column][precision[..., column] > -1]
                rows[name].append(float(valid.mean() * 100) if valid.size else '-')
        header = ['class', *(f'{iou_type} AP' for iou_type in self.iou_types)]
        self.log_table('Average precision', [header, *rows.values()])
        return metrics


def _thing_names(instruction: Any, labels: Any) -> tuple[list[str], np.ndarray]:
    """The phrases of the thing labels, and their places in ``labels``."""
    labels = to_numpy(labels).astype(np.int64)
    if (labels >= len(instruction.phrases)).any():
        raise ValueError(f'labels must lie below {len(instruction.phrases)}, got {labels.max()}')
    is_thing = np.append(np.asarray(instruction.is_thing, dtype=bool), False)
    kept = np.flatnonzero(is_thing[np.maximum(labels, -1)])
    return [instruction.phrases[labels[k]] for k in kept], kept


def _xywh(box: np.ndarray) -> list[float]:
    return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]


def _to_coco(results: list[dict[str, Any]], ids: dict[str, int], key: str) -> dict[str, Any]:
    """Lay the images' objects out as a COCO data set."""
    annotations: list[dict[str, Any]] = []
    for image_id, result in enumerate(results, start=1):
        for item in result[key]:
            rle = item.get('segmentation')
            area = item['bbox'][2] * item['bbox'][3] if rle is None else coco_mask.area(rle)
            annotations.append(dict(
                item, id=len(annotations) + 1, image_id=image_id, category_id=ids[item['name']],
                area=float(area), iscrowd=item.get('iscrowd', 0)))
    images = [dict(id=k, height=result['size'][0], width=result['size'][1])
              for k, result in enumerate(results, start=1)]
    categories = [dict(id=number, name=name) for name, number in ids.items()]
    return dict(info={}, images=images, categories=categories, annotations=annotations)


def _evaluate(truth: dict[str, Any], found: dict[str, Any], iou_type: str) -> np.ndarray:
    """Precision by COCOeval, (10 IoU thresholds, 101 recalls, classes), -1 where undefined."""
    sides = []
    for data in (truth, found):
        side = COCO()
        side.dataset = data
        side.createIndex()
        sides.append(side)
    evaluation = COCOeval(*sides, iouType=iou_type)
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval['precision'][..., 0, -1]
