# Copyright (c) mvp_mm authors. All rights reserved.
"""Mean intersection over union of semantic segmentation."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mvp_mm.evaluation.base import NothingToMeasureError, PerceptionMetric, require
from mvp_mm.evaluation.overlaps import index_ids, joint_histogram
from mvp_mm.registry import METRICS
from mvp_mm.utils.arrays import to_numpy

# (ground truth phrase, predicted phrase) to pixels.
Confusion = dict[tuple[str, str], int]


@METRICS.register_module()
class SemanticIoUMetric(PerceptionMetric):
    """mIoU against the classes of the panoptic map.

    Void pixels are ignored, crowd regions count as their class. Classes are told apart by
    phrase. A class that is predicted somewhere but never true has an IoU of 0 in the mean, as in
    mmsegmentation; one that is neither does not enter it. Accuracy is that of true classes.

    Reports ``semantic/mIoU``, ``fwIoU`` (weighted by frequency), ``mACC`` (mean class accuracy)
    and ``pACC`` (pixel accuracy).
    """

    default_prefix = 'semantic'

    def measure(self, sample: Mapping[str, Any]) -> Confusion:
        """Count the pairs of classes of one image's pixels.

        Raises:
            KeyError: If a map is missing.
            ValueError: If the maps differ in size or a label is out of range.
        """
        phrases = require(sample, 'instruction').phrases
        segments = require(sample, 'gt_eval', 'segments_info')
        gt_map = to_numpy(require(sample, 'gt_eval', 'panoptic'))
        pred = to_numpy(require(sample, 'pred_sem_seg'))
        if gt_map.shape != pred.shape:
            raise ValueError(f'the predicted map has size {pred.shape}, the ground truth '
                             f'{gt_map.shape}')
        labels = np.array([-1] + [segment['label'] for segment in segments], dtype=np.int64)
        for name, values in (('ground-truth', labels[1:]), ('predicted', pred)):
            if ((values < 0) | (values >= len(phrases))).any():
                raise ValueError(f'{name} labels must lie in [0, {len(phrases)})')
        gt = labels[index_ids(gt_map, [segment['id'] for segment in segments])]
        valid = gt >= 0
        counts = joint_histogram(gt[valid], pred[valid], len(phrases), len(phrases))
        return {
            (phrases[i], phrases[j]): int(counts[i, j]) for i, j in np.argwhere(counts)
        }

    def summarize(self, results: list[Confusion]) -> dict[str, float]:
        """Add up the confusion matrix and average over classes.

        Raises:
            NothingToMeasureError: If every pixel is void.
        """
        names = sorted({name for result in results for pair in result for name in pair})
        if not names:
            raise NothingToMeasureError('nothing but void in the ground truth')
        row = {name: index for index, name in enumerate(names)}
        confusion = np.zeros((len(names), len(names)), dtype=np.int64)
        for result in results:
            for (gt, pred), pixels in result.items():
                confusion[row[gt], row[pred]] += pixels

        hit, gt, pred = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
        present = gt > 0
        iou = 100. * hit / (gt + pred - hit)
        accuracy = 100. * hit / np.maximum(gt, 1)
        self.log_table('Semantic segmentation', [['class', 'IoU', 'ACC', 'pixels']] + [
            [name, float(iou[k]), float(accuracy[k]) if present[k] else '', int(gt[k])]
            for k, name in enumerate(names)])
        return dict(
            mIoU=float(iou.mean()), fwIoU=float((iou * gt).sum() / gt.sum()),
            mACC=float(accuracy[present].mean()), pACC=float(100. * hit.sum() / gt.sum()))
