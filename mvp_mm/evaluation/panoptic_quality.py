# Copyright (c) mvp_mm authors. All rights reserved.
"""Panoptic quality (Kirillov et al., CVPR 2019), by the rules of panopticapi."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mvp_mm.evaluation.base import (
    NothingToMeasureError,
    PerceptionMetric,
    require,
    sample_name,
)
from mvp_mm.evaluation.overlaps import count_pairs
from mvp_mm.registry import METRICS
from mvp_mm.utils.arrays import to_numpy

# Of each class in an image: sum of IoUs, true positives, false positives, false negatives.
Counts = dict[str, tuple[bool, float, int, int, int]]


def match_segments(gt_map: np.ndarray, gt_segments: Sequence[Mapping[str, Any]],
                   pred_map: np.ndarray, pred_segments: Sequence[Mapping[str, Any]],
                   num_classes: int) -> np.ndarray:
    """Match the segments of one image.

    Segments of one class match when their IoU, void pixels left out, exceeds 0.5. Crowd regions
    are never to be found, and a prediction that lies mostly in void or in the crowd of its class
    is not counted as wrong.

    Args:
        gt_map: (h, w) segment ids, 0 is void.
        gt_segments: With ``id``, ``label`` and ``iscrowd``.
        pred_map: (h, w) segment ids, 0 is void.
        pred_segments: With ``id`` and ``label``.
        num_classes: K.

    Returns:
        (K, 4) float64: sum of IoUs, true positives, false positives, false negatives.

    Raises:
        ValueError: If the maps and the segments disagree.
    """
    if gt_map.shape != pred_map.shape:
        raise ValueError(f'the predicted map has size {pred_map.shape}, the ground truth '
                         f'{gt_map.shape}')
    shared = count_pairs(gt_map, [segment['id'] for segment in gt_segments],
                         pred_map, [segment['id'] for segment in pred_segments])
    gt_label = _labels(gt_segments, num_classes)
    pred_label = _labels(pred_segments, num_classes)
    crowd = np.array([bool(segment.get('iscrowd', 0)) for segment in gt_segments], dtype=bool)

    gt_area, pred_area = shared.sum(1)[1:], shared.sum(0)[1:]
    if not pred_area.all():
        raise ValueError('segments_info lists predicted segments that own no pixel')
    void, shared = shared[0, 1:], shared[1:, 1:]
    i, j = ((gt_label[:, None] == pred_label) & ~crowd[:, None]).nonzero()
    both = shared[i, j]
    iou = both / np.maximum(gt_area[i] + pred_area[j] - both - void[j], 1)
    matched = iou > 0.5
    i, j, iou = i[matched], j[matched], iou[matched]

    spared = void
    if crowd.any():
        # One crowd region a class is spared, the last one listed, as panopticapi does.
        crowd_row = np.full(num_classes, -1)
        crowd_row[gt_label[crowd]] = crowd.nonzero()[0]
        row = crowd_row[pred_label]
        spared = void + np.where(row >= 0, shared[row, np.arange(len(row))], 0)
    wrong = spared <= 0.5 * pred_area
    wrong[j] = False
    missed = ~crowd
    missed[i] = False

    hits = gt_label[i]
    column = (hits, hits, pred_label[wrong], gt_label[missed])
    cell = np.concatenate([4 * labels + k for k, labels in enumerate(column)])
    weight = np.ones(len(cell))
    weight[:len(iou)] = iou
    return np.bincount(cell, weight, 4 * num_classes).reshape(num_classes, 4)


def _labels(segments: Sequence[Mapping[str, Any]], num_classes: int) -> np.ndarray:
    labels = np.array([segment['label'] for segment in segments], dtype=np.int64)
    if labels.size and (labels.min() < 0 or labels.max() >= num_classes):
        raise ValueError(f'segment labels must lie in [0, {num_classes}), got '
                         f'{np.unique(labels).tolist()}')
    return labels


@METRICS.register_module()
class PanopticQualityMetric(PerceptionMetric):
    """PQ, SQ and RQ over all classes, things and stuff.

    Classes are told apart by phrase. As in panopticapi, a class without segments in ground truth
    and predictions does not enter the mean, and a group without classes is left out.

    Reports ``panoptic/PQ``, ``SQ``, ``RQ`` and the same with ``_th`` and ``_st``.
    """

    default_prefix = 'panoptic'

    def measure(self, sample: Mapping[str, Any]) -> Counts:
        """Count one image.

        Raises:
            KeyError: If maps or segments are missing.
            ValueError: If maps and segments disagree.
        """
        instruction = require(sample, 'instruction')
        if len(set(instruction.phrases)) != len(instruction.phrases):
            raise ValueError(f'{sample_name(sample)}: the phrases are not distinct')
        counts = match_segments(
            to_numpy(require(sample, 'gt_eval', 'panoptic')),
            require(sample, 'gt_eval', 'segments_info'),
            to_numpy(require(sample, 'pred_panoptic_seg', 'panoptic')),
            require(sample, 'pred_panoptic_seg', 'segments_info'), len(instruction.phrases))
        present = np.flatnonzero(counts.any(1))
        return {
            instruction.phrases[k]: (bool(instruction.is_thing[k]), float(counts[k, 0]),
                                     *counts[k, 1:].astype(int).tolist())
            for k in present
        }

    def summarize(self, results: list[Counts]) -> dict[str, float]:
        """Average over classes.

        Raises:
            NothingToMeasureError: If no image has a segment.
        """
        total: dict[tuple[str, bool], np.ndarray] = defaultdict(lambda: np.zeros(4))
        for result in results:
            for name, (is_thing, *counts) in result.items():
                total[name, is_thing] += counts
        if not total:
            raise NothingToMeasureError('no segment in ground truth or predictions')
        classes = sorted(total, key=lambda key: (not key[1], key[0]))
        things = np.array([is_thing for _, is_thing in classes])
        iou, tp, fp, fn = np.stack([total[key] for key in classes]).T
        quality = np.stack((
            iou / (tp + 0.5 * fp + 0.5 * fn), iou / np.maximum(tp, 1),
            tp / (tp + 0.5 * fp + 0.5 * fn)), axis=1) * 100

        header = ['class', 'kind', 'PQ', 'SQ', 'RQ', 'TP', 'FP', 'FN']
        self.log_table('Panoptic quality', [header] + [
            [name, 'thing' if is_thing else 'stuff', *map(float, quality[row]),
             int(tp[row]), int(fp[row]), int(fn[row])]
            for row, (name, is_thing) in enumerate(classes)])
        groups = {'': np.ones_like(things), '_th': things, '_st': ~things}
        return {
            f'{measure}{suffix}': float(quality[group, column].mean())
            for suffix, group in groups.items() if group.any()
            for column, measure in enumerate(('PQ', 'SQ', 'RQ'))
        }
