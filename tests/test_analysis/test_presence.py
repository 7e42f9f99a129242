# Copyright (c) mvp_mm authors. All rights reserved.
"""The balanced presence threshold, the ROC curve and the calibration error."""
from __future__ import annotations

import numpy as np
import pytest

from mvp_mm.analysis.presence import (
    calibrate_presence,
    calibration_error,
    matthews_correlation,
)


def test_the_threshold_lies_in_the_middle_of_the_gap_between_the_two_kinds():
    found = calibrate_presence([0.1, 0.3, 0.7, 0.9], [False, False, True, True])
    assert found.threshold == pytest.approx(0.5)
    assert (found.n_acc, found.t_acc, found.area) == (1.0, 1.0, 1.0)


def test_area_and_balanced_shares_agree_with_counting_pairs_and_thresholds():
    rng = np.random.default_rng(0)
    present = rng.random(60) < 0.6
    # Rounded, so that scores are equal across both kinds.
    scores = np.clip(0.3 + 0.25 * present + rng.normal(0, 0.2, 60), 0, 1).round(1)
    found = calibrate_presence(scores, present)
    difference = scores[present][:, None] - scores[~present]
    assert found.area == pytest.approx(((difference > 0) + 0.5 * (difference == 0)).mean())
    above = scores > found.threshold
    assert found.t_acc == pytest.approx(above[present].mean())
    assert found.n_acc == pytest.approx((~above)[~present].mean())
    best = max((scores > t)[present].mean() + (scores <= t)[~present].mean()
               for t in np.linspace(-0.05, 1.05, 111))
    assert found.t_acc + found.n_acc == pytest.approx(best)


def test_at_the_equal_threshold_the_shares_are_as_close_as_the_scores_allow():
    rng = np.random.default_rng(1)
    present = rng.random(80) < 0.7
    scores = np.clip(0.4 + 0.3 * present + rng.normal(0, 0.2, 80), 0, 1)
    found = calibrate_presence(scores, present)

    def apart(threshold):
        above = scores > threshold
        return abs(above[present].mean() - (~above)[~present].mean())

    assert found.equal_threshold != found.threshold
    assert apart(found.equal_threshold) == pytest.approx(min(map(apart, scores)))


def test_of_equally_good_thresholds_the_one_with_the_closest_shares_is_taken():
    # Above 0.25 are all four targets and two of four others; above 0.45 three and one.
    present = [False, False, True, False, True, True, True, False]
    found = calibrate_presence(np.arange(1, 9) / 10, present)
    assert (found.n_acc, found.t_acc) == (0.75, 0.75)
    assert found.threshold == pytest.approx(0.45)


def test_the_curve_runs_from_nothing_found_to_everything_found():
    found = calibrate_presence([0.2, 0.4, 0.6], [True, False, True])
    ends = [(curve[0], curve[-1])
            for curve in (found.false_positive_rate, found.true_positive_rate)]
    assert ends == [(0.0, 1.0), (0.0, 1.0)]


def test_the_calibration_error_is_the_distance_of_score_and_share_per_bin():
    scores = np.array([0.9, 0.9, 0.9, 0.9, 0.1, 0.1])
    present = np.array([True, True, False, False, False, False])
    # 4 of 6 sentences are 0.4 too sure, 2 of 6 say 0.1 where none has a target.
    assert calibration_error(scores, present) == pytest.approx((4 * 0.4 + 2 * 0.1) / 6)


def test_the_matthews_correlation_is_that_of_the_four_counts():
    rng = np.random.default_rng(1)
    above, present = rng.random(50) < 0.5, rng.random(50) < 0.7
    tp, fp = (above & present).sum(), (above & ~present).sum()
    fn, tn = (~above & present).sum(), (~above & ~present).sum()
    expected = (tp * tn - fp * fn) / np.sqrt(
        float((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))
    assert matthews_correlation(above, present) == pytest.approx(expected)
    assert matthews_correlation(present, present) == pytest.approx(1)
    assert matthews_correlation(np.ones(50, dtype=bool), present) == 0


@pytest.mark.parametrize('scores, present, message', [
    ([0.1, 0.2], [True], 'one length'),
    ([0.1, 1.2], [True, False], 'from 0 to 1'),
    ([0.1, float('nan')], [True, False], 'from 0 to 1'),
    ([0.1, 0.2], [True, True], 'got 2 with and 0 without'),
])
def test_sentences_that_cannot_be_calibrated_are_refused(scores, present, message):
    with pytest.raises(ValueError, match=message):
        calibrate_presence(scores, present)
