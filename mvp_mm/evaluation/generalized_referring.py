# Copyright (c) mvp_mm authors. All rights reserved.
"""Generalised referring segmentation: a sentence may mean none, one or many objects."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torchvision.ops import generalized_box_iou, nms

from mvp_mm.evaluation.base import (
    PerceptionMetric,
    checked_boxes,
    checked_masks,
    checked_scores,
    require,
)
from mvp_mm.evaluation.overlaps import mask_overlaps, union_of_rles, without_ignored
from mvp_mm.registry import METRICS
from mvp_mm.utils.arrays import to_numpy


@dataclass
class _Sentence:
    """What one sentence's answer is worth.

    Attributes:
        has_target: Whether the sentence means anything.
        mask: Intersection and union with the target in pixels, and whether the answer is empty.
        boxes: F1 of the boxes, and whether there is none.
    """

    has_target: bool
    mask: tuple[int, int, bool] | None = None
    boxes: tuple[float, bool] | None = None


@METRICS.register_module()
class GeneralizedReferringMetric(PerceptionMetric):
    """The measures of GRES (Liu et al., CVPR 2023) and GREC (He et al., arXiv 2308.16182).

    Masks: the answer is the union of the predicted masks, empty when there is none or it has no
    pixel. A sentence without a target and with an empty answer has an IoU of 1; with any other
    answer its IoU is 0 and the answer's pixels still enter the cIoU's union.

    Boxes: the predicted and the true boxes are paired greedily, best first, by their generalised
    IoU down to 0.5, as GREC's own script does although it speaks of IoU. A sentence is right when
    all boxes of both sides are paired (F1 = 1); without a target, when no box is predicted.

    Args:
        targets: ``'mask'`` for GRES, ``'box'`` for GREC, or both.
        nms_iou: Of predicted boxes that overlap more, only the best counts; None, as in GREC,
            counts all that the task's threshold lets through.
        **kwargs: As for :class:`mmengine.evaluator.BaseMetric`.

    Reports ``generalized/gIoU`` (mean IoU), ``cIoU`` (sum of intersections over sum of unions),
    ``N-acc`` (share of no-target sentences answered by nothing), ``T-acc`` (share of the other
    sentences answered by something), ``box_F1`` (share of right sentences), ``box_N-acc`` and
    ``box_T-acc``; the shares only where there are such sentences.

    Raises:
        ValueError: If a target is unknown.
    """

    default_prefix = 'generalized'

    def __init__(self, targets: Sequence[str] = ('mask', 'box'), nms_iou: float | None = None,
                 **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not targets or not set(targets) <= {'mask', 'box'}:
            raise ValueError(f"targets must be among 'mask' and 'box', got {targets!r}")
        self.targets = tuple(targets)
        self.nms_iou = nms_iou

    def measure(self, sample: Mapping[str, Any]) -> _Sentence:
        """Score one sentence.

        Raises:
            KeyError: If boxes, masks or scores are missing.
            ValueError: If masks have another size than the image, or a score is not finite.
        """
        result = _Sentence(has_target=len(require(sample, 'gt_eval', 'bboxes')) > 0)
        scores = checked_scores(sample, require(sample, 'pred_instances', 'scores'))
        if 'mask' in self.targets:
            size = tuple(map(int, sample['ori_shape'][:2]))
            target = union_of_rles(require(sample, 'gt_eval', 'masks'), size)
            masks = checked_masks(sample, require(sample, 'pred_instances', 'masks'), len(scores))
            target, masks = without_ignored(sample['gt_eval'], target, masks)
            answer: torch.Tensor = masks.any(0, keepdim=True)
            shared, union = mask_overlaps(answer, target)
            result.mask = int(shared[0]), int(union[0]), not bool(answer.any())
        if 'box' in self.targets:
            boxes = checked_boxes(sample, require(sample, 'pred_instances', 'bboxes'))
            if self.nms_iou is not None:
                kept = nms(torch.from_numpy(boxes), torch.from_numpy(scores), self.nms_iou)
                boxes = boxes[to_numpy(kept)]
            result.boxes = _box_f1(boxes, to_numpy(sample['gt_eval']['bboxes'])), not len(boxes)
        return result

    def summarize(self, results: list[_Sentence]) -> dict[str, float]:
        """Average over sentences."""
        has_target = np.array([result.has_target for result in results])
        metrics: dict[str, float] = {}
        if 'mask' in self.targets:
            shared, union, is_empty = np.array([result.mask for result in results]).T
            is_empty = is_empty.astype(bool)
            iou = np.where(~has_target & is_empty, 1., shared / np.maximum(union, 1))
            # Nothing to find and nothing found anywhere leaves 0 / 0, which is as good as can be.
            total = shared.sum() / union.sum() if union.sum() else 1.
            metrics = dict(gIoU=iou.mean(), cIoU=total, **_shares(has_target, is_empty, ''))
        if 'box' in self.targets:
            f1, is_empty = np.array([result.boxes for result in results]).T
            metrics.update(
                box_F1=(f1 == 1).mean(), **_shares(has_target, is_empty.astype(bool), 'box_'))
        return {name: 100. * float(value) for name, value in metrics.items()}


def _shares(has_target: np.ndarray, is_empty: np.ndarray, prefix: str) -> dict[str, float]:
    """How often nothing and something was answered rightly."""
    shares = {}
    if not has_target.all():
        shares[f'{prefix}N-acc'] = is_empty[~has_target].mean()
    if has_target.any():
        shares[f'{prefix}T-acc'] = (~is_empty[has_target]).mean()
    return shares


def _box_f1(boxes: np.ndarray, targets: np.ndarray) -> float:
    """F1 of (n, 4) boxes that are to be the (m, 4) targets; 1 where both are empty."""
    if not len(boxes) or not len(targets):
        return float(len(boxes) == len(targets))
    overlap = generalized_box_iou(*(
        torch.from_numpy(np.asarray(side, dtype=np.float64)) for side in (boxes, targets)))
    # Two empty boxes in one place give 0 / 0.
    overlap = overlap.nan_to_num_(0.).numpy()
    hits = 0
    while overlap.size and overlap.max() >= 0.5:
        row, column = np.unravel_index(overlap.argmax(), overlap.shape)
        overlap = np.delete(np.delete(overlap, row, axis=0), column, axis=1)
        hits += 1
    return 2 * hits / (len(boxes) + len(targets))
