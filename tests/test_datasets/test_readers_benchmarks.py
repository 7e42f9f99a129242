# Copyright (c) mvp_mm authors. All rights reserved.
"""Readers of newer benchmarks: what they make of their files, and how broken ones are named."""
from __future__ import annotations

import json

import numpy as np
import pytest
from mmengine.config import Config
from pycocotools import mask as coco_mask

from mvp_mm.datasets.readers.reason_seg import draw_shapes
from mvp_mm.datasets.vocabulary.class_lists import load_vocabulary
from mvp_mm.evaluation import GeneralizedReferringMetric, ReferringMetric
from mvp_mm.registry import DATASETS, METRICS
from tests.helpers import ROOT
from tests.test_datasets.miniature import entries, moved
from tests.test_datasets.miniature_benchmarks import (
    BENCHMARK_WRITERS,
    write_ref_adv,
    write_refcoco_m,
)
from tests.test_datasets.small_data import BOXES, HEIGHT, WIDTH, pipeline
from tests.test_evaluation.samples import box_masks, encode, make_instances, make_sample, score

ENTRIES = entries()
REASON, REF_ADV, REFCOCO_M = 'reason_seg_val', 'ref_adv_s', 'refcoco_m_val'


@pytest.fixture
def root(tmp_path):
    for folder, writer in BENCHMARK_WRITERS:
        writer(tmp_path / folder)
    (tmp_path / 'refer/train2014').mkdir()
    return tmp_path


def build(root, name, **changes):
    return DATASETS.build(dict(moved(ENTRIES[name], root), pipeline=[], **changes))


def edit(path, change):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    change(lines[0])
    path.write_text('\n'.join(map(json.dumps, lines)))


def test_the_target_of_reason_seg_is_what_is_drawn_last(root):
    item = build(root, REASON).get_data_info(0)
    target, ignored = (coco_mask.decode(rle) for rle in (*item['segmentations'], item['ignored']))
    assert target[3, 3] and target[12, 22] and not target[5, 5]
    assert ignored[5, 5] and ignored.sum() == 16 and not (target & ignored).any()
    assert item['boxes'].tolist() == [[2, 2, 26, 16]]


def test_a_smaller_shape_covers_a_larger_one():
    square = [[2, 2], [12, 2], [12, 12], [2, 12]]
    inner = [[5, 5], [7, 5], [7, 7], [5, 7]]
    for labels, value in ((('target', 'ignore'), 255), (('ignore', 'target'), 1)):
        for shapes in ([square, inner], [inner, square]):
            named = dict(zip(map(str, (square, inner)), labels, strict=True))
            drawn = draw_shapes([(named[str(shape)], shape) for shape in shapes], HEIGHT, WIDTH)
            assert drawn[6, 6] == value and drawn[3, 3] == (1 if value == 255 else 255)


def test_reason_seg_asks_the_first_text_in_evaluation_and_all_in_training(root):
    first, = build(root, REASON).get_data_info(0)['annotation'].referrals
    assert first.sentence == 'what keeps the café warm?' and first.kind == 'long'
    training = build(root, 'reason_seg_train').get_data_info(0)['annotation'].referrals
    assert [referral.sentence for referral in training][1:] == ['the thing that gives warmth']
    windows = build(root, 'reason_seg_test').get_data_info(0)
    assert windows['annotation'].referrals[0].sentence == first.sentence


@pytest.mark.parametrize('change, message', [
    (lambda c: c.update(text=[]), 'has no text'),
    (lambda c: c.update(text=['a', None]), 'has text'),
    (lambda c: c.pop('is_sentence'), 'lacks is_sentence'),
    (lambda c: c['shapes'][0]['points'][0].append(3), 'shape number 0 has points'),
    (lambda c: c['shapes'][0]['points'][0].__setitem__(0, float('nan')), 'shape number 0 has poin'),
    (lambda c: c.update(shapes=c['shapes'][1:2]), 'has no shape labelled target')])
def test_a_broken_file_of_reason_seg_is_named(root, change, message):
    path = root / 'ReasonSeg/val/7_val.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f'val/7_val.json: .*{message}'):
        build(root, REASON)


@pytest.mark.parametrize('metric', [ReferringMetric, GeneralizedReferringMetric])
def test_ignored_pixels_count_for_nothing(metric):
    target, answer, ignored = [4, 4, 12, 12], [4, 4, 12, 20], [0, 12, 30, 20]
    size = (HEIGHT, WIDTH)
    truth = dict(bboxes=np.array([target]), labels=np.zeros(1, int),
                 masks=encode(box_masks([target], size)))
    found = []
    for more in ({}, dict(ignored=encode(box_masks([ignored], size))[0])):
        sample = make_sample(size, dict(truth, **more), kind='sentence')
        sample.pred_instances = make_instances([answer], [0.5], [0], box_masks([answer], size))
        found.append(score(metric(targets=('mask',)), [sample]))
    name = f'{metric.default_prefix}/cIoU'
    assert [figures[name] for figures in found] == [50., 100.]


def test_ref_adv_tells_negation_apart(root):
    item = build(root, REF_ADV).get_data_info(0)
    assert [(r.targets, r.kind) for r in item['annotation'].referrals] == [
        ([0], 'plain'), ([1], 'negation')]
    assert item['boxes'].tolist()[0] == [2, 12, 8, 17]


@pytest.mark.parametrize('name', ['odinw_aquarium', 'odinw_pistols'])
@pytest.mark.parametrize('share, expected', [(1.0, 100.), (0.5, 50.)])
def test_boxes_of_odinw_are_asked_by_their_own_classes_and_scored_by_class(
        root, tmp_path, name, share, expected):
    configured, = Config.fromfile(ROOT / 'configs/_base_/datasets/odinw.py')._odinw[name].metrics
    metric = METRICS.build(configured)
    dataset = DATASETS.build(
        dict(moved(ENTRIES[name], root), pipeline=pipeline(tmp_path, training=False)))
    sample, = dataset[0]['data_samples']
    assert sample.task == 'detection' and sample.instruction.phrases == ['fish', 'shark']
    truth = sample.gt_eval
    assert truth['labels'].tolist() == [0, 1, 0]
    # With half the classes nothing of the other one is found.
    found = np.flatnonzero(truth['labels'] < 2 * share)
    sample.pred_instances = make_instances(
        truth['bboxes'][found], [0.9] * len(found), truth['labels'][found])
    metric.dataset_meta = dataset.metainfo
    figures = score(metric, [sample])
    assert figures['coco/bbox_AP'] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize('change, message', [
    (dict(solution=[9, 9, 3, 3]), r'has the box \[9, 9, 3, 3\]: negative size'),
    (dict(solution=[90, 90, 99, 99]), 'outside the image'),
    (dict(normal_caption=' '), 'normal_cap'),
    (dict(width=60), 'another size'), (dict(file_name=None), 'has file_name None')])
def test_a_broken_row_of_ref_adv_is_named(tmp_path, change, message):
    write_ref_adv(tmp_path / 'ref_adv')
    path = tmp_path / 'ref_adv/ref_adv_s.jsonl'
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1].update(change)
    path.write_text('\n'.join(map(json.dumps, lines)))
    with pytest.raises(ValueError, match=f'ref_adv_s.jsonl: line 2 .*{message}'):
        build(tmp_path, REF_ADV)


def test_refcoco_m_has_one_object_per_sample_and_all_its_sentences(root):
    item = build(root, REFCOCO_M).get_data_info(0)
    assert [(r.sentence, r.targets) for r in item['annotation'].referrals] == [
        ('left one', [0]), ('man on left', [0]), ('right one', [1])]
    x, y, w, h = BOXES[1]
    assert item['boxes'][1].tolist() == [x, y, x + w, y + h]
    assert coco_mask.area(item['segmentations'][1]) == w * h


@pytest.mark.parametrize('change, message', [
    (lambda s: s.update(bbox=[20, 12, 8, 8]), r'sample 0 has the box .* \(x, y, w, h\), its mask'),
    (lambda s: s.update(bbox=[2, 12, 8, 17, 1]), 'sample 0 has bbox'),
    (lambda s: s['mask'].update(counts='PR'), 'sample 0 .* is no compressed RLE'),
    (lambda s: s['mask'].update(size=[9, 9]), 'no samples whose masks have one size'),
    (lambda s: s.update(sentences=['', 'a']), 'sample 0 has sentences')])
def test_a_broken_sample_of_refcoco_m_is_named(tmp_path, change, message):
    write_refcoco_m(tmp_path / 'refer')
    (tmp_path / 'refer/train2014').mkdir()
    edit(tmp_path / 'refer/refcoco_m/validation.jsonl', lambda image: change(image['samples'][0]))
    with pytest.raises(ValueError, match=f'validation.jsonl: image 1,? .*{message}'):
        build(tmp_path, REFCOCO_M)


def test_coco_stuff_has_171_classes_by_the_published_ids():
    names, things = load_vocabulary('coco_stuff_171')
    values = ENTRIES['coco_stuff_val']['values']
    of = dict(zip(names, values, strict=True))
    assert len(names) == 171 and sum(things) == 80
    # Published ids less one.
    assert [of[name] for name in ('person', 'toothbrush', 'banner', 'sky', 'wood')] == [
        0, 89, 91, 156, 181]
