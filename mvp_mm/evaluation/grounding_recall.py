# Copyright (c) mvp_mm authors. All rights reserved.
"""Recall of phrase grounding."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mvp_mm.evaluation.base import (
    NothingToMeasureError,
    PerceptionMetric,
    checked_boxes,
    checked_scores,
    require,
)
from mvp_mm.evaluation.overlaps import box_iou
from mvp_mm.registry import METRICS
from mvp_mm.utils.arrays import to_numpy


@METRICS.register_module()
class GroundingRecallMetric(PerceptionMetric):
    """Recall@k at an IoU of 0.5, "any-box" protocol.

    A phrase that has boxes in the ground truth is grounded at k when one of the k best predicted
    boxes of this phrase overlaps any of its boxes. Absent phrases and crowd boxes do not count.

    Args:
        topk: Values of k.
        iou_thr: Least IoU of a hit.
        **kwargs: As for :class:`mmengine.evaluator.BaseMetric`.

    Reports ``grounding/R@k`` for each k.
    """

    default_prefix = 'grounding'

    def __init__(self, topk: Sequence[int] = (1, 5, 10), iou_thr: float = 0.5,
                 **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.topk = tuple(topk)
        self.iou_thr = iou_thr

    def measure(self, sample: Mapping[str, Any]) -> tuple[int, ...]:
        """Number of phrases of one image, then of grounded ones for each k.

        Raises:
            KeyError: If boxes, scores or labels are missing.
            ValueError: If a score or a box is not finite.
        """
        gt_boxes = checked_boxes(sample, require(sample, 'gt_eval', 'bboxes'))
        gt_labels = to_numpy(require(sample, 'gt_eval', 'labels')).astype(np.int64)
        crowd = to_numpy(sample['gt_eval'].get('crowd', np.zeros(len(gt_labels)))).astype(bool)
        wanted = (gt_labels >= 0) & ~crowd
        gt_boxes, gt_labels = gt_boxes[wanted], gt_labels[wanted]
        boxes = checked_boxes(sample, require(sample, 'pred_instances', 'bboxes'))
        scores = checked_scores(sample, require(sample, 'pred_instances', 'scores'))
        labels = to_numpy(require(sample, 'pred_instances', 'labels')).astype(np.int64)

        order = np.lexsort((-scores, labels))
        boxes, labels = boxes[order], labels[order]
        rank = np.arange(len(labels)) - np.searchsorted(labels, labels)
        hit = (box_iou(boxes, gt_boxes) >= self.iou_thr) & (labels[:, None] == gt_labels[None])
        hit = hit.any(1)
        grounded = [len(np.unique(labels[hit & (rank < k)])) for k in self.topk]
        return (len(np.unique(gt_labels)), *grounded)

    def summarize(self, results: list[tuple[int, ...]]) -> dict[str, float]:
        """Share of grounded phrases.

        Raises:
            NothingToMeasureError: If no phrase has a box in the ground truth.
        """
        phrases, *grounded = np.sum(results, axis=0).tolist()
        if phrases == 0:
            raise NothingToMeasureError('no phrase with a box in the ground truth')
        return {f'R@{k}': 100. * count / phrases
                for k, count in zip(self.topk, grounded, strict=True)}
