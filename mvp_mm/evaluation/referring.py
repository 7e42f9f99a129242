# Copyright (c) mvp_mm authors. All rights reserved.
"""Referring segmentation (RES) and comprehension (REC): one target a sentence."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mvp_mm.evaluation.base import (
    PerceptionMetric,
    checked_boxes,
    checked_masks,
    checked_scores,
    require,
)
from mvp_mm.evaluation.overlaps import (
    box_iou,
    iou_or_zero,
    mask_overlaps,
    union_of_rles,
    without_ignored,
)
from mvp_mm.registry import METRICS

_PRECISION_AT = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass
class _Sentence:
    """Overlaps of one sentence's answer, and of the best candidate an oracle could choose.

    Attributes:
        kind: Kind of expression, ``''`` where unknown.
        mask: Intersection and union with the target, in pixels.
        oracle_mask: The same for the candidate of the highest IoU.
        box: IoU with the target.
        oracle_box: Highest IoU among the candidates.
    """

    kind: str = ''
    mask: tuple[int, int] | None = None
    oracle_mask: tuple[int, int] | None = None
    box: float | None = None
    oracle_box: float | None = None


@METRICS.register_module()
class ReferringMetric(PerceptionMetric):
    """RES and REC with one sample a sentence, the protocol of the field.

    RES: cIoU is the sum of intersections over the sum of unions, gIoU the mean IoU, ``P@x`` the
    share of sentences with an IoU of at least x. REC: the share of sentences whose box overlaps
    the target's by at least 0.5; the box is the box head's, not one around the mask. The answer
    is the prediction of the highest score, of equal ones the first. Where ``pred_candidates`` is
    there, the oracle's best choice among the candidates tells how much selection costs.

    Pixels of ``gt_eval['ignored']``, a COCO RLE, count neither as target nor as answer.

    Args:
        targets: ``'mask'`` for RES, ``'box'`` for REC, or both.
        **kwargs: As for :class:`mmengine.evaluator.BaseMetric`.

    Reports ``referring/cIoU``, ``gIoU``, ``P@0.5`` … ``P@0.9``, ``REC``, ``oracle_cIoU`` and
    ``oracle_REC``, and all of them as ``referring/<kind>/…`` for each ``expression_kind``.

    Raises:
        ValueError: If a target is unknown.
    """

    default_prefix = 'referring'

    def __init__(self, targets: Sequence[str] = ('mask', 'box'), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not targets or not set(targets) <= {'mask', 'box'}:
            raise ValueError(f"targets must be among 'mask' and 'box', got {targets!r}")
        self.targets = tuple(targets)

    def measure(self, sample: Mapping[str, Any]) -> _Sentence:
        """Overlaps of one sentence.

        Raises:
            KeyError: If boxes, scores or masks are missing.
            ValueError: If the sentence has not exactly one target, or sizes do not match.
        """
        count = len(require(sample, 'gt_eval', 'bboxes'))
        if count != 1:
            raise ValueError(f'a sentence must have one target, got {count}; '
                             'GeneralizedReferringMetric takes any number')
        result = _Sentence(kind=sample.get('expression_kind', ''))
        scores = checked_scores(sample, require(sample, 'pred_instances', 'scores'))
        # Of equal ones the first, as answers come best first.
        best = np.argsort(-scores, kind='stable')[:1]
        if 'mask' in self.targets:
            result.mask = self._mask_overlap(sample, 'pred_instances', best)
            if 'pred_candidates' in sample:
                result.oracle_mask = self._mask_overlap(sample, 'pred_candidates', None)
        if 'box' in self.targets:
            result.box = self._box_overlap(sample, 'pred_instances', best)
            if 'pred_candidates' in sample:
                result.oracle_box = self._box_overlap(sample, 'pred_candidates', None)
        return result

    @staticmethod
    def _mask_overlap(sample: Mapping[str, Any], key: str,
                      chosen: np.ndarray | None) -> tuple[int, int]:
        """Intersection and union of the best of the chosen masks (all if None)."""
        size = tuple(map(int, sample['ori_shape'][:2]))
        target = union_of_rles(require(sample, 'gt_eval', 'masks'), size)
        count = len(require(sample, key, 'scores'))
        masks = checked_masks(sample, require(sample, key, 'masks'), count)
        target, masks = without_ignored(sample['gt_eval'], target, masks)
        if chosen is not None:
            masks = masks[chosen.tolist()]
        if len(masks) == 0:
            return 0, int(target.sum())
        shared, union = mask_overlaps(masks, target)
        best = int(iou_or_zero(shared, union).argmax())
        return int(shared[best]), int(union[best])

    @staticmethod
    def _box_overlap(sample: Mapping[str, Any], key: str, chosen: np.ndarray | None) -> float:
        """Highest IoU of the chosen boxes (all if None)."""
        boxes = checked_boxes(sample, require(sample, key, 'bboxes'))
        if chosen is not None:
            boxes = boxes[chosen]
        return float(box_iou(boxes, sample['gt_eval']['bboxes']).max(initial=0.))

    def summarize(self, results: list[_Sentence]) -> dict[str, float]:
        """Scores over all sentences and by kind of expression."""
        metrics = _scores(results)
        kinds = sorted({result.kind for result in results} - {''})
        parts = {kind: [result for result in results if result.kind == kind] for kind in kinds}
        rows = [['all', len(results), *metrics.values()]]
        for kind, part in parts.items():
            scores = _scores(part)
            rows.append([kind, len(part), *scores.values()])
            metrics.update({f'{kind}/{name}': value for name, value in scores.items()})
        header = ['expressions', 'sentences', *_scores(results)]
        self.log_table('Referring expressions, one sample a sentence', [header, *rows])
        return metrics


def _scores(results: list[_Sentence]) -> dict[str, float]:
    """Named numbers of a group of sentences, in percent."""
    scores: dict[str, float] = {}
    if results[0].mask is not None:
        shared, union = np.array([result.mask for result in results]).T
        iou = iou_or_zero(shared, union)
        scores['cIoU'] = 100. * shared.sum() / max(union.sum(), 1)
        scores['gIoU'] = 100. * iou.mean()
        scores.update({f'P@{x}': 100. * (iou >= x).mean() for x in _PRECISION_AT})
    if results[0].box is not None:
        scores['REC'] = 100. * np.mean([result.box >= 0.5 for result in results])
    if all(result.oracle_mask is not None for result in results):
        shared, union = np.array([result.oracle_mask for result in results]).T
        scores['oracle_cIoU'] = 100. * shared.sum() / max(union.sum(), 1)
    if all(result.oracle_box is not None for result in results):
        scores['oracle_REC'] = 100. * np.mean([result.oracle_box >= 0.5 for result in results])
    return {name: float(value) for name, value in scores.items()}
