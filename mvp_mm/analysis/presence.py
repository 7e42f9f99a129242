# Copyright (c) mvp_mm authors. All rights reserved.
"""Chooses the score above which a sentence counts as one that means something in the image."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class PresenceCalibration:
    """What the presence scores of some sentences are worth.

    See :func:`~mvp_mm.tasks.decoding.sentence_presence`: generalized referring answers with
    something where that is above the task's ``presence_thr``.

    Attributes:
        threshold: The balanced one: N-acc and T-acc have the highest mean above it.
        equal_threshold: The one at which N-acc and T-acc are closest.
        n_acc: N-acc at the threshold: share of the sentences without a target below it.
        t_acc: T-acc at the threshold: share of the sentences with a target above it.
        area: Area under the ROC curve, equal scores counting half.
        calibration_error: Expected calibration error (ECE) of the score as a probability that
            there is a target.
        false_positive_rate: (n,) of the ROC curve, from 0 to 1.
        true_positive_rate: (n,) of the ROC curve, from 0 to 1.
    """

    threshold: float
    equal_threshold: float
    n_acc: float
    t_acc: float
    area: float
    calibration_error: float
    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray


def calibrate_presence(scores: ArrayLike, present: ArrayLike,
                       bins: int = 10) -> PresenceCalibration:
    """Compute the ROC curve, the balanced threshold and the calibration error.

    Of several thresholds with the same mean the one with the closest N-acc and T-acc is taken. It
    lies in the middle between two scores that occur.

    Args:
        scores: (n,) presence scores from 0 to 1.
        present: (n,) bool, whether the sentence has a target.
        bins: Equally wide ranges of scores for the calibration error.

    Raises:
        ValueError: If the shapes differ, a score is not from 0 to 1, or all sentences or none
            have a target.
    """
    scores, present = np.asarray(scores, dtype=np.float64), np.asarray(present, dtype=bool)
    if scores.ndim != 1 or scores.shape != present.shape:
        raise ValueError('scores and present must be lists of one length, got shapes '
                         f'{scores.shape} and {present.shape}')
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError('scores must be from 0 to 1')
    if present.all() or not present.any():
        raise ValueError('sentences with a target and without one are needed, got '
                         f'{present.sum()} with and {(~present).sum()} without')
    levels, place = np.unique(scores, return_inverse=True)
    targets = np.bincount(place, present, len(levels))
    others = np.bincount(place, ~present, len(levels))
    # Above the k-th threshold are the sentences of the levels from k on.
    t_acc, false_positive = _shares_from(targets), _shares_from(others)
    inner = (levels[:-1] + levels[1:]) / 2
    thresholds = np.concatenate([[0.0], inner, [1.0]])
    n_acc = 1 - false_positive
    mean = (t_acc + n_acc) / 2
    best = np.flatnonzero(np.isclose(mean, mean.max(), rtol=0, atol=1e-12))
    chosen = best[np.abs(t_acc - n_acc)[best].argmin()]
    return PresenceCalibration(
        threshold=float(thresholds[chosen]),
        equal_threshold=float(thresholds[np.abs(t_acc - n_acc).argmin()]),
        n_acc=float(n_acc[chosen]), t_acc=float(t_acc[chosen]),
        area=float(np.trapezoid(t_acc[::-1], false_positive[::-1])),
        calibration_error=calibration_error(scores, present, bins),
        false_positive_rate=false_positive[::-1], true_positive_rate=t_acc[::-1])


def calibration_error(scores: np.ndarray, present: np.ndarray, bins: int = 10) -> float:
    """Compute the expected calibration error (Guo et al., ICML 2017).

    Args:
        scores: (n,) from 0 to 1.
        present: (n,) bool.
        bins: Equally wide ranges of scores.

    Returns:
        Mean over the scores of the distance between the mean score and the share of sentences
        with a target in the score's bin.
    """
    place = np.minimum((scores * bins).astype(int), bins - 1)
    excess = np.bincount(place, scores - present, bins)
    return float(np.abs(excess).sum() / len(scores))


def matthews_correlation(above: np.ndarray, present: np.ndarray) -> float:
    """Compute the Matthews correlation coefficient (MCC) of two yes-or-no answers.

    Args:
        above: (n,) bool, the sentences that are answered with something.
        present: (n,) bool, the sentences that have a target.

    Returns:
        From -1 to 1; 0 where either is the same for all sentences.
    """
    if above.all() or not above.any() or present.all() or not present.any():
        return 0.0
    return float(np.corrcoef(above, present)[0, 1])


def _shares_from(counts: np.ndarray) -> np.ndarray:
    """(levels + 1,) shares of the counts from each level on; the last is 0."""
    return np.append(counts[::-1].cumsum()[::-1], 0.0) / counts.sum()
