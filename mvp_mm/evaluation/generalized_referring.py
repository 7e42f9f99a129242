# Copyright (c) mvp_mm authors. All rights reserved.
"""Generalised referring segmentation: a sentence may mean none, one or many objects."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mvp_mm.evaluation.base import PerceptionMetric, checked_masks, checked_scores, require
from mvp_mm.evaluation.overlaps import mask_overlaps, union_of_rles
from mvp_mm.registry import METRICS


@METRICS.register_module()
class GeneralizedReferringMetric(PerceptionMetric):
    """The measures of GRES (Liu et al., CVPR 2023).

    The answer is the union of the predicted masks, empty when there is none or it has no pixel.
    A sentence without a target and with an empty answer has an IoU of 1; with any other answer
    its IoU is 0 and the answer's pixels still enter the cIoU's union.

    Reports ``generalized/gIoU`` (mean IoU), ``cIoU`` (sum of intersections over sum of unions),
    ``N-acc`` (share of no-target sentences answered by nothing) and ``T-acc`` (share of the other
    sentences answered by something); the last two only where there are such sentences.
    """

    default_prefix = 'generalized'

    def measure(self, sample: Mapping[str, Any]) -> tuple[int, int, bool, bool]:
        """Intersection, union, whether there is a target, whether the answer is empty.

        Raises:
            KeyError: If masks or scores are missing.
            ValueError: If masks have another size than the image, or a score is not finite.
        """
        size = tuple(map(int, sample['ori_shape'][:2]))
        rles = require(sample, 'gt_eval', 'masks')
        target = union_of_rles(rles, size)
        scores = checked_scores(sample, require(sample, 'pred_instances', 'scores'))
        masks = checked_masks(sample, require(sample, 'pred_instances', 'masks'), len(scores))
        answer: torch.Tensor = masks.any(0, keepdim=True)
        shared, union = mask_overlaps(answer, target)
        return int(shared[0]), int(union[0]), len(rles) > 0, not bool(answer.any())

    def summarize(self, results: list[tuple[int, int, bool, bool]]) -> dict[str, float]:
        """Average over sentences."""
        shared, union, has_target, is_empty = np.array(results, dtype=np.int64).T
        has_target, is_empty = has_target.astype(bool), is_empty.astype(bool)
        right_nothing = ~has_target & is_empty
        iou = np.where(right_nothing, 1., shared / np.maximum(union, 1))
        # Nothing to find and nothing found anywhere leaves 0 / 0, which is as good as can be.
        total = shared.sum() / union.sum() if union.sum() else 1.
        metrics = dict(gIoU=100. * iou.mean(), cIoU=100. * total)
        if not has_target.all():
            metrics['N-acc'] = 100. * is_empty[~has_target].mean()
        if has_target.any():
            metrics['T-acc'] = 100. * (~is_empty[has_target]).mean()
        return {name: float(value) for name, value in metrics.items()}
