# Copyright (c) mvp_mm authors. All rights reserved.
"""What the model's options of decoding and undecided words do to answers."""
from __future__ import annotations

import numpy as np
import torch

from mvp_mm.structures import Answering
from mvp_mm.tasks import decoding
from tests.test_tasks.raws import META, make_raw, make_sample


def test_suppression_keeps_the_best_of_each_label():
    raw = make_raw(2, queries=4, phrases=2, dynamic=4, nms_iou=0.5)
    raw.boxes = torch.tensor([[.3, .3, .2, .2], [.3, .3, .2, .2], [.31, .3, .2, .2],
                              [.7, .7, .2, .2]])
    raw.logits = torch.tensor([[4., 0., 0.], [5., 0., 0.], [0., 3., 0.], [4.5, 0., 0.]])
    arguments = dict(max_per_image=10, score_thr=0.5, things_only=False, with_masks=False)
    found = decoding.decode_instances(raw, make_sample((True, True)), **arguments)
    boxes = decoding.rescale_boxes(raw.boxes, META)
    assert torch.equal(found.bboxes, boxes[[1, 3, 2]]) and found.labels.tolist() == [0, 0, 1]
    raw.answering = Answering()
    assert len(decoding.decode_instances(raw, make_sample((True, True)), **arguments)) == 4


def test_suppression_reaches_phrases_and_generalized_sentences():
    boxes = torch.tensor([[.3, .3, .2, .2], [.3, .3, .2, .2], [.7, .7, .2, .2]])
    words_raw = make_raw(2, queries=3, phrases=1, dynamic=3, nms_iou=0.5)
    words_raw.boxes, words_raw.logits = boxes, torch.tensor([[2., 0.], [3., 0.], [1., 0.]])
    sentence = make_raw(2, queries=3, sentence=True, nms_iou=0.5)
    sentence.boxes, sentence.logits = boxes, torch.tensor([2., 3., 1.])
    phrases = decoding.decode_phrases(
        words_raw, make_sample((True,)), max_per_phrase=2, score_thr=0., with_masks=False)
    several = decoding.decode_generalized(
        sentence, make_sample((True,)), score_thr=0.5, with_masks=False)
    expected = decoding.rescale_boxes(boxes, META)[[1, 2]]
    assert torch.equal(phrases.bboxes, expected) and torch.equal(several.bboxes, expected)


def undecided_sample(flags=(True, True, True, True)):
    sample = make_sample(flags, use_stuff_queries=True)
    sample.instruction.undecided = np.ones(len(flags), dtype=bool)
    return sample


def test_an_undecided_word_is_what_its_best_query_is():
    raw = make_raw(0, queries=4, phrases=2, dynamic=2)
    raw.logits = torch.tensor([[6., 0., 0.], [0., 2., 0.], [5., 4., 0.], [0., 8., 0.]])
    raw.mask_logits = torch.full((4, 16, 16), -9.)
    for query, rows in enumerate((slice(0, 4), slice(4, 8), slice(8, 9), slice(9, 16))):
        raw.mask_logits[query, rows] = 9.
    sample = undecided_sample((True, True))
    assert decoding.thing_flags(raw, sample).tolist() == [True, False]
    found = decoding.decode_panoptic(raw, sample, score_thr=0.1, mask_thr=0.5, overlap_thr=0.5)
    assert {(s['label'], s['isthing']) for s in found['segments_info']} == {(0, True), (1, False)}
    assert decoding.decode_semantic(raw, sample)[[0, -1], 0].tolist() == [0, 1]


def test_stuff_is_one_instance_where_it_is_asked_for():
    raw = make_raw(0, queries=4, phrases=2, dynamic=2)
    raw.logits = torch.tensor([[6., 0., 0.], [5., 0., 0.], [0., 4., 0.], [0., 8., 0.]])
    arguments = dict(max_per_image=10, score_thr=0.1, with_masks=False)
    sample = make_sample((True, False), use_stuff_queries=True)
    found = decoding.decode_instances(
        raw, sample, things_only=False, stuff_once=True, **arguments)
    assert sorted(found.labels.tolist()) == [0, 0, 1]
    stuff = found[found.labels == 1]
    assert torch.equal(stuff.bboxes, decoding.rescale_boxes(raw.boxes[3:], META))
    things = decoding.decode_instances(raw, sample, things_only=True, **arguments)
    assert things.labels.tolist() == [0, 0]


def test_the_least_score_holds_for_every_task():
    raw, sentence = make_raw(7, least_score=0.4), make_raw(4, sentence=True, least_score=0.7)
    sample = make_sample()
    instances = decoding.decode_instances(
        raw, sample, max_per_image=40, score_thr=0., things_only=False, with_masks=True)
    phrases = decoding.decode_phrases(
        raw, sample, max_per_phrase=9, score_thr=0., with_masks=False)
    several = decoding.decode_generalized(sentence, sample, score_thr=0.1, with_masks=False)
    assert len(instances) and (instances.scores > 0.4).all()
    assert len(phrases) and (phrases.scores > 0.4).all()
    assert len(several) and (several.scores > 0.7).all()
