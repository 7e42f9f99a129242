# Copyright (c) mvp_mm authors. All rights reserved.
"""Decoding against plain loops, and round trips through resizing and padding."""
from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mvp_mm.structures import Answering
from mvp_mm.tasks import decoding
from mvp_mm.tasks.decoding import words
from tests.test_tasks.raws import META, THINGS, make_raw, make_sample


def to_canvas(box):
    """An original xyxy box as cxcywh, normalised by the canvas."""
    scale = META['img_shape'][1] / META['ori_shape'][1], META['img_shape'][0] / META['ori_shape'][0]
    x1, y1, x2, y2 = (coordinate * scale[k % 2] / 64 for k, coordinate in enumerate(box))
    return torch.tensor([[(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]])


def test_boxes_land_in_the_original_frame():
    box = (5., 3., 41., 27.)
    found = decoding.rescale_boxes(to_canvas(box), META)
    assert torch.allclose(found, torch.tensor([box]), atol=1e-4)


def test_boxes_are_clipped():
    found = decoding.rescale_boxes(torch.tensor([[0.5, 0.5, 2., 2.]]), META)
    assert found.tolist() == [[0., 0., 50., 30.]]


def test_masks_land_in_the_original_frame():
    canvas = torch.full((1, 1, 64, 64), -8.)
    x1, y1, x2, y2 = 10, 6, 40, 24
    scale_x, scale_y = 64 / 50, 38 / 30
    canvas[..., round(y1 * scale_y):round(y2 * scale_y),
           round(x1 * scale_x):round(x2 * scale_x)] = 8.
    found = decoding.rescale_mask_logits(F.avg_pool2d(canvas, 4)[0], META)[0] > 0
    truth = torch.zeros(30, 50, dtype=torch.bool)
    truth[y1:y2, x1:x2] = True
    assert found.shape == (30, 50)
    assert (found & truth).sum() / (found | truth).sum() > 0.85


def test_no_masks():
    assert decoding.rescale_mask_logits(torch.zeros(0, 16, 16), META).shape == (0, 30, 50)


def test_every_query_may_name_things_and_stuff():
    raw, sample = make_raw(3), make_sample(use_stuff_queries=True)
    assert torch.equal(decoding.word_probabilities(raw, sample), raw.logits.softmax(-1))


def test_semantic_matches_loops(monkeypatch):
    raw, sample = make_raw(5), make_sample()
    monkeypatch.setattr(words, '_SEMANTIC_CHUNK', 1000)
    probabilities = raw.logits.softmax(-1)
    masks = decoding.rescale_mask_logits(raw.mask_logits, META).sigmoid()
    votes = torch.zeros(len(THINGS), 30, 50)
    for query in range(12):
        for k in range(len(THINGS)):
            votes[k] += probabilities[query, k] * masks[query]
    found = decoding.decode_semantic(raw, sample)
    assert found.dtype == torch.int64
    assert (found == votes.argmax(0)).float().mean() > 0.999


@pytest.mark.parametrize('things_only', [False, True])
def test_instances_match_loops(things_only):
    raw, sample = make_raw(7), make_sample()
    probabilities = raw.logits.softmax(-1)
    masks = decoding.rescale_mask_logits(raw.mask_logits, META).sigmoid()
    pairs = [(float(probabilities[q, k]), q, k) for q in range(12) for k in range(len(THINGS))
             if THINGS[k] or not things_only]
    expected = []
    for score, query, label in sorted(pairs, reverse=True)[:15]:
        mask = masks[query] > 0.5
        quality = float(masks[query][mask].mean()) if mask.any() else 0.
        expected.append((score * quality, query, label))
    expected = sorted((e for e in expected if e[0] > 0.05), reverse=True)
    found = decoding.decode_instances(
        raw, sample, max_per_image=15, score_thr=0.05, things_only=things_only, with_masks=True)
    boxes = decoding.rescale_boxes(raw.boxes, META)
    assert found.labels.tolist() == [label for _, _, label in expected]
    assert np.allclose(found.scores, [score for score, _, _ in expected], atol=1e-5)
    assert torch.equal(found.bboxes, boxes[[query for _, query, _ in expected]])
    assert torch.equal(found.masks, torch.stack([masks[q] > 0.5 for _, q, _ in expected]))


def test_instances_of_boxes_only():
    found = decoding.decode_instances(make_raw(1), make_sample(), max_per_image=5, score_thr=0.,
                                      things_only=True, with_masks=False)
    assert len(found) == 5 and 'masks' not in found
    assert (found.scores.diff() <= 0).all()


def test_instances_without_things():
    found = decoding.decode_instances(
        make_raw(1, phrases=2), make_sample((False, False)), max_per_image=5, score_thr=0.,
        things_only=True, with_masks=True)
    assert len(found) == 0 and found.masks.shape == (0, 30, 50)


def test_phrases_match_loops():
    raw, sample = make_raw(7), make_sample()
    probabilities = raw.logits.softmax(-1)
    expected = []
    for label in range(len(THINGS)):
        ranked = sorted(((float(probabilities[q, label]), q) for q in range(12)), reverse=True)
        expected += [(score, q, label) for score, q in ranked[:3] if score > 0.05]
    expected.sort(reverse=True)
    found = decoding.decode_phrases(
        raw, sample, max_per_phrase=3, score_thr=0.05, with_masks=False)
    boxes = decoding.rescale_boxes(raw.boxes, META)
    assert found.labels.tolist() == [label for _, _, label in expected]
    assert torch.equal(found.bboxes, boxes[[q for _, q, _ in expected]])
    assert np.allclose(found.scores, [score for score, _, _ in expected])


def test_a_loud_phrase_leaves_the_others_their_boxes():
    raw, sample = make_raw(3, queries=40, phrases=2), make_sample((True, True))
    raw.logits = torch.tensor([[9., 0., 0.]]).repeat(40, 1)
    raw.logits[7, 1] = 1.
    joint = decoding.decode_instances(
        raw, sample, max_per_image=40, score_thr=0., things_only=False, with_masks=False)
    assert 1 not in joint.labels
    found = decoding.decode_phrases(raw, sample, max_per_phrase=10, score_thr=0., with_masks=False)
    assert found.labels.bincount().tolist() == [10, 10]
    best = found[found.labels == 1].bboxes[0]
    assert torch.equal(best, decoding.rescale_boxes(raw.boxes, META)[7])


def referred(raw, same_iou):
    """Index of the query that answers."""
    raw.answering = Answering(same_iou=same_iou)
    found = decoding.decode_referring(raw, make_sample(), with_masks=False)
    boxes = decoding.rescale_boxes(raw.boxes, META)
    return int((boxes - found.bboxes).abs().sum(1).argmin())


def test_referring_takes_the_best_query():
    raw = make_raw(2, sentence=True)
    best = int(raw.logits.argmax())
    found = decoding.decode_referring(raw, make_sample(), with_masks=True)
    assert found.scores.tolist() == pytest.approx([float(raw.logits[best].sigmoid())])
    assert torch.equal(found.bboxes[0], decoding.rescale_boxes(raw.boxes, META)[best])
    mask = decoding.rescale_mask_logits(raw.mask_logits, META)[best] > 0
    assert torch.equal(found.masks[0], mask)


def test_queries_on_one_object_answer_together():
    raw = make_raw(2, queries=4, sentence=True)
    raw.boxes = torch.tensor([
        [.2, .2, .2, .2], [.6, .3, .2, .2], [.61, .3, .2, .2], [.62, .3, .2, .2]])
    raw.logits = torch.tensor([1., .4, .5, .3])
    assert referred(raw, same_iou=None) == 0
    # exp(.4) + exp(.5) + exp(.3) > exp(1); of the three the best one answers.
    assert referred(raw, same_iou=0.7) == 2


def test_boxes_without_area_stand_for_themselves():
    raw = make_raw(2, queries=3, sentence=True)
    raw.boxes = torch.tensor([[.2, .2, .1, .1], [.7, .7, 0., 0.], [.4, .4, 0., 0.]])
    raw.logits = torch.tensor([0., 1., .5])
    assert referred(raw, same_iou=0.7) == 1


def test_candidates_are_ranked():
    raw = make_raw(2, sentence=True)
    found = decoding.decode_candidates(raw, make_sample(), num=50, with_masks=True)
    order = raw.logits.argsort(descending=True)
    assert torch.equal(found.bboxes, decoding.rescale_boxes(raw.boxes, META)[order])
    masks = decoding.rescale_mask_logits(raw.mask_logits, META) > 0
    assert torch.equal(found.masks, masks[order])


def test_generalized_may_be_empty():
    raw = make_raw(4, sentence=True)
    count = int((raw.logits.sigmoid() > 0.6).sum())
    assert len(decoding.decode_generalized(
        raw, make_sample(), score_thr=0.6, with_masks=True)) == count > 0
    raw.logits -= 100
    empty = decoding.decode_generalized(raw, make_sample(), score_thr=0.6, with_masks=True)
    assert len(empty) == 0 and empty.masks.shape == (0, 30, 50) and empty.bboxes.shape == (0, 4)


def test_presence_is_the_probability_that_any_query_is_meant():
    raw = make_raw(4, sentence=True)
    raw.logits -= 3
    misses = [1 - float(score) for score in raw.logits.double().sigmoid()]
    assert float(decoding.sentence_presence(raw)) == pytest.approx(1 - math.prod(misses), abs=1e-6)
    for logits, presence in ((-90., 0.), (90., 1.)):    # nothing overflows
        raw.logits.fill_(logits)
        assert float(decoding.sentence_presence(raw)) == pytest.approx(presence, abs=1e-6)


def answers_by_presence(raw, score_thr):
    """Numbers of objects without a threshold for presence, just below it, and just above it."""
    presence = float(decoding.sentence_presence(raw))
    return [len(decoding.decode_generalized(raw, make_sample(), score_thr=score_thr,
                                            with_masks=False, presence_thr=threshold))
            for threshold in (None, presence - 1e-3, presence + 1e-3)]


def test_presence_tells_that_there_is_an_answer_and_every_query_whether_it_is_of_it():
    raw = make_raw(4, sentence=True)
    raw.logits -= 3
    above = int((raw.logits.sigmoid() > 0.2).sum())
    assert above > 1
    assert answers_by_presence(raw, score_thr=0.2) == [above, above, 0]


def test_the_best_query_answers_a_sentence_whose_presence_is_shared_by_several():
    raw = make_raw(4, sentence=True)
    raw.logits.fill_(-9.)[:2] = torch.tensor([-0.4, -0.2])    # two that are as likely
    assert answers_by_presence(raw, score_thr=0.5) == [0, 1, 0]
    found = decoding.decode_generalized(raw, make_sample(), score_thr=0.5, with_masks=False,
                                        presence_thr=0.6)
    assert found.scores.tolist() == pytest.approx([0.4502], abs=1e-4)
    raw.answering = replace(raw.answering, least_score=0.46)    # the caller's own threshold
    assert answers_by_presence(raw, score_thr=0.5) == [0, 0, 0]


def test_wrong_logits_are_named():
    with pytest.raises(ValueError, match=r'4 phrases needs logits of shape \(Q, 5\)'):
        decoding.decode_semantic(make_raw(0, phrases=6), make_sample())
    with pytest.raises(ValueError, match=r'shape \(Q,\)'):
        decoding.decode_referring(make_raw(0), make_sample(), with_masks=False)
