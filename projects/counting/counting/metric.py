# Copyright (c) mvp_mm authors. All rights reserved.
"""How far the counts are off."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from mvp_mm.evaluation.base import PerceptionMetric, require
from mvp_mm.registry import METRICS


@METRICS.register_module()
class CountingMetric(PerceptionMetric):
    """Mean absolute error of the counts, class by class and averaged over the classes.

    A class whose crowd region is in an image has no known count there and is left out for that
    image.

    Reports ``counting/MAE`` and ``counting/<class>/MAE``, in instances, not in percent.
    """

    default_prefix = 'counting'

    def measure(self, sample: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
        """The counted and the true number of each class of one image.

        Raises:
            KeyError: If predictions or ground truth are missing.
        """
        phrases = require(sample, 'instruction').phrases
        labels = np.asarray(require(sample, 'gt_eval', 'labels'), dtype=np.int64)
        crowd = np.asarray(require(sample, 'gt_eval', 'crowd'), dtype=bool)
        truth = np.bincount(labels[~crowd], minlength=len(phrases))
        unknown = {phrases[label] for label in labels[crowd]}
        number = dict(zip(phrases, truth.tolist(), strict=True))
        return {phrase: (counted, number[phrase])
                for phrase, counted in require(sample, 'pred_counts').items()
                if phrase not in unknown}

    def summarize(self, results: list[dict[str, tuple[int, int]]]) -> dict[str, float]:
        """Average the absolute errors.

        Raises:
            ValueError: If no class has a known count.
        """
        errors: dict[str, list[int]] = defaultdict(list)
        for result in results:
            for phrase, (counted, true) in result.items():
                errors[phrase].append(abs(counted - true))
        if not errors:
            raise ValueError('CountingMetric: no class with a known count')
        by_class = {phrase: float(np.mean(errors[phrase])) for phrase in sorted(errors)}
        rows = [[phrase, len(errors[phrase]), error] for phrase, error in by_class.items()]
        self.log_table('Mean absolute error of counts', [['class', 'images', 'MAE'], *rows])
        return dict(MAE=float(np.mean(list(by_class.values()))),
                    **{f'{phrase}/MAE': error for phrase, error in by_class.items()})
