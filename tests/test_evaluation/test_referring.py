# Copyright (c) mvp_mm authors. All rights reserved.
"""Referring measures on cases worked out by hand."""
from __future__ import annotations

import numpy as np
import pytest

from mvp_mm.evaluation import GeneralizedReferringMetric, ReferringMetric

from .samples import box_masks, encode, make_instances, make_sample, score

SIZE = (10, 20)
LEFT, RIGHT = (0, 0, 10, 10), (10, 0, 20, 10)
HALF = (0, 0, 5, 10)


def sentence(targets, answers, scores=None, **meta):
    """A sentence about boxes, answered by boxes and the masks that fill them."""
    gt = dict(bboxes=np.array(targets, dtype=np.float32).reshape(-1, 4),
              masks=encode(box_masks(targets, SIZE)), labels=np.zeros(len(targets), dtype=int))
    sample = make_sample(SIZE, gt, kind='sentence', **meta)
    sample.pred_instances = make_instances(answers, scores, masks=box_masks(answers, SIZE))
    return sample


def test_res_and_rec_by_hand():
    found = score(ReferringMetric(), [
        sentence([LEFT], [LEFT]),       # 100 / 100 pixels
        sentence([LEFT], [HALF]),       # 50 / 100
        sentence([LEFT], [RIGHT]),      # 0 / 200
        sentence([LEFT], [])])          # 0 / 100
    assert found == pytest.approx({
        'referring/cIoU': 100 * 150 / 500, 'referring/gIoU': 100 * 1.5 / 4,
        'referring/P@0.5': 50., 'referring/P@0.6': 25., 'referring/P@0.7': 25.,
        'referring/P@0.8': 25., 'referring/P@0.9': 25., 'referring/REC': 50.})


def test_the_best_score_answers():
    found = score(ReferringMetric(), [sentence([LEFT], [RIGHT, LEFT], [0.2, 0.9])])
    assert set(found.values()) == {100.}


def test_box_and_mask_are_scored_apart():
    sample = sentence([LEFT], [LEFT])
    sample.pred_instances.bboxes[:] = sample.pred_instances.bboxes.new_tensor(RIGHT)
    found = score(ReferringMetric(), [sample])
    assert found['referring/cIoU'] == 100. and found['referring/REC'] == 0.


def test_rec_needs_no_masks():
    sample = sentence([LEFT], [LEFT])
    del sample.pred_instances.masks, sample.gt_eval['masks']
    assert score(ReferringMetric(targets=['box']), [sample]) == {'referring/REC': 100.}
    with pytest.raises(KeyError, match='image 7, "the one on the left" has no gt_eval.masks'):
        score(ReferringMetric(), [sample])


def test_kinds_and_oracle():
    samples = [sentence([LEFT], [LEFT], expression_kind='attribute'),
               sentence([LEFT], [RIGHT], expression_kind='ordinal')]
    for sample in samples:
        sample.pred_candidates = make_instances(
            [RIGHT, HALF, LEFT], masks=box_masks([RIGHT, HALF, LEFT], SIZE))
    found = score(ReferringMetric(), samples)
    assert found['referring/cIoU'] == pytest.approx(100 / 3)
    assert found['referring/attribute/cIoU'] == 100. and found['referring/ordinal/REC'] == 0.
    assert found['referring/oracle_cIoU'] == found['referring/oracle_REC'] == 100.
    assert found['referring/ordinal/oracle_cIoU'] == 100.


def test_one_target_a_sentence():
    with pytest.raises(ValueError, match='image 7.*must have one target, got 2'):
        score(ReferringMetric(), [sentence([LEFT, RIGHT], [LEFT])])


def test_gres_by_hand():
    found = score(GeneralizedReferringMetric(targets=['mask']), [
        sentence([], []),                      # nothing, rightly: IoU 1, 0 / 0
        sentence([], [HALF]),                  # nothing was meant: IoU 0, 0 / 50
        sentence([LEFT, RIGHT], [LEFT]),       # 100 / 200
        sentence([LEFT, RIGHT], [LEFT, RIGHT]),
        sentence([LEFT], [])])                 # 0 / 100
    assert found == pytest.approx({
        'generalized/gIoU': 100 * (1 + 0 + 0.5 + 1 + 0) / 5,
        'generalized/cIoU': 100 * 300 / (50 + 200 + 200 + 100),
        'generalized/N-acc': 50., 'generalized/T-acc': 100 * 2 / 3})


def test_gres_of_nothing_but_nothing_is_perfect():
    found = score(GeneralizedReferringMetric(), [sentence([], []), sentence([], [])])
    assert found == {f'generalized/{name}': 100. for name in (
        'gIoU', 'cIoU', 'N-acc', 'box_F1', 'box_N-acc')}


def test_gres_answers_without_pixels_are_empty():
    sample = sentence([], [LEFT])
    sample.pred_instances.masks[:] = False
    assert score(GeneralizedReferringMetric(targets=['mask']), [sample]) == {
        'generalized/gIoU': 100., 'generalized/cIoU': 100., 'generalized/N-acc': 100.}


THIRD = (0, 0, 6, 10)


@pytest.mark.parametrize('targets, answers, right', [
    ([LEFT, RIGHT], [RIGHT, LEFT], True),
    ([LEFT, RIGHT], [LEFT], False),            # one is missing
    ([LEFT], [LEFT, RIGHT], False),            # one is too many
    ([LEFT], [LEFT, THIRD], False),            # the same object twice
    ([LEFT], [HALF], True),                    # IoU 0.5, and the hull is the union
    # IoU 64 / 126.25 = 0.507, hull 132.25: 0.507 - 6 / 132.25 = 0.462
    ([LEFT], [(2, 2, 11.5, 11.5)], False),
    ([LEFT], [(1, 1, 11, 11)], True),          # IoU 81 / 119, hull 121: 0.681 - 0.017
    ([LEFT, THIRD], [THIRD, THIRD], True),     # 0.6 and 1: each is paired once
    ([LEFT], [], False),
    ([], [HALF], False),
    ([], [], True),
])
def test_grec_by_hand(targets, answers, right):
    found = score(GeneralizedReferringMetric(targets=['box']), [sentence(targets, answers)])
    kind, said = ('T', bool(answers)) if targets else ('N', not answers)
    assert found == {
        'generalized/box_F1': 100. * right, f'generalized/box_{kind}-acc': 100. * said}


def test_grec_may_count_overlapping_boxes_once():
    sample = sentence([LEFT], [THIRD, LEFT], scores=[0.4, 0.9])
    metric = GeneralizedReferringMetric(targets=['box'], nms_iou=0.5)
    assert score(metric, [sample])['generalized/box_F1'] == 100.


@pytest.mark.parametrize('metric', [ReferringMetric, GeneralizedReferringMetric])
def test_unknown_targets_are_refused(metric):
    with pytest.raises(ValueError, match="targets must be among 'mask' and 'box'"):
        metric(targets=['masks'])


def test_gres_perfect():
    found = score(GeneralizedReferringMetric(), [
        sentence([LEFT], [LEFT]), sentence([], []), sentence([LEFT, HALF], [LEFT, HALF])])
    assert set(found.values()) == {100.}


def test_broken_answers_name_the_sentence():
    sample = sentence([LEFT], [LEFT], [float('nan')])
    for metric in (ReferringMetric(), GeneralizedReferringMetric()):
        with pytest.raises(ValueError, match='the one on the left.*score is NaN'):
            score(metric, [sample])
    sample = sentence([LEFT], [LEFT], ori_shape=(9, 9))
    with pytest.raises(ValueError, match='masks have'):
        score(ReferringMetric(), [sample])
