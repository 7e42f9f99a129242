# Copyright (c) mvp_mm authors. All rights reserved.
"""Datasets without anything to find, ties, and AP of a whole file against pycocotools."""
from __future__ import annotations

import contextlib
import io
import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import ConcatDataset
from mmengine.logging import MMLogger
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mvp_mm.evaluation import (
    CocoAPMetric,
    GroundingRecallMetric,
    PanopticQualityMetric,
    ReferringMetric,
    SemanticIoUMetric,
)
from mvp_mm.evaluation.base import PerceptionMetric
from mvp_mm.evaluation.scoring import meta_of
from mvp_mm.registry import DATASETS
from tests.test_datasets.small_data import config, rectangle, tokenizer_config, write_json

from .samples import box_masks, encode, make_instances, make_sample, score

SIZE = (24, 32)
NAMES = ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl')


def empty_sample(crowds=0):
    boxes = np.array([[2., 2., 9., 9.]] * crowds).reshape(-1, 4)
    sample = make_sample(SIZE, dict(
        bboxes=boxes, labels=np.zeros(crowds, int), crowd=np.ones(crowds, bool),
        masks=encode(box_masks(boxes, SIZE)), panoptic=np.zeros(SIZE, np.int32), segments_info=[]))
    sample.pred_instances = make_instances([[1, 1, 5, 5]], [0.5], [0], np.ones((1, *SIZE)))
    sample.pred_panoptic_seg = dict(panoptic=torch.zeros(SIZE, dtype=torch.int32),
                                    segments_info=[])
    sample.pred_sem_seg = torch.zeros(SIZE, dtype=torch.int64)
    return sample


@pytest.mark.parametrize('metric, crowds', [
    (CocoAPMetric, 0), (CocoAPMetric, 1), (GroundingRecallMetric, 0), (GroundingRecallMetric, 1),
    (PanopticQualityMetric, 0), (SemanticIoUMetric, 0)])
def test_figures_of_a_dataset_without_anything_to_find_are_left_out(monkeypatch, metric, crowds):
    told = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'warning', told.append)
    metric = metric()
    metric.dataset_meta = dict(source='annotations/val.json')
    assert score(metric, [empty_sample(crowds)]) == {}
    message, = told
    assert message.startswith(f'{type(metric).__name__}: annotations/val.json has no')
    assert message.endswith('its figures are left out')


def test_datasets_of_different_files_are_scored_as_one(tmp_path):
    members = []
    for name in ('one', 'two'):
        members.append(config(tmp_path / name, 'CocoInstanceDataset', test_mode=True,
                              tasks=[dict(type='InstanceTask')]))
    (tmp_path / 'two/ann.json').rename(tmp_path / 'two/other.json')
    members[1]['ann_file'] = 'other.json'
    joined = ConcatDataset([DATASETS.build(member) for member in members],
                           ignore_keys=['classes', 'thing_flags'])
    meta = meta_of(joined)
    assert meta['source'] == f'{tmp_path}/one/ann.json, {tmp_path}/two/other.json'
    assert meta['classes'] == ('cat', 'dog')


def test_an_error_of_the_summary_is_raised_where_it_is_evaluated():
    class Broken(PerceptionMetric):
        def measure(self, sample):
            return 0

        def summarize(self, results):
            raise ValueError('cannot be summarised')

    with pytest.raises(ValueError, match='cannot be summarised'):
        score(Broken(), [empty_sample()])


def test_of_equally_likely_answers_the_first_counts():
    box, other = [2., 2., 9., 9.], [12., 12., 19., 19.]
    sample = make_sample(SIZE, dict(bboxes=np.array([box]), labels=np.zeros(1, int),
                                    masks=encode(box_masks([box], SIZE))), kind='sentence')
    sample.pred_instances = make_instances([box, other], [0.5, 0.5], [0, 0],
                                           box_masks([box, other], SIZE))
    found = score(ReferringMetric(), [sample])
    assert found['referring/cIoU'] == found['referring/REC'] == 100.


@pytest.fixture(scope='module', params=[8, 100], ids=['eighths', 'hundredths'])
def world(tmp_path_factory, request):
    """A file with areas of its own, ids out of order, and answers of which many are tied.

    In hundredths, which no binary fraction is, half of the answers overlap by a threshold.
    """
    root, rng = tmp_path_factory.mktemp('world'), np.random.default_rng(3)
    part = request.param
    size, annotations, answers = (120, 160), [], []
    ids = [9, 2, 30, 11, 4, 7]
    for ident in ids:
        path = root / 'img' / f'{ident}.png'
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.zeros((*size, 3), np.uint8))
        for _ in range(rng.integers(3, 7)):
            x, y = np.round(rng.integers(0, 60, 2) / 8 + rng.integers(0, part, 2) / part, 2)
            w, h = rng.choice([80, 260, 880], 2) / 8 + rng.integers(0, 9, 2) / 8
            box = [float(v) for v in (x, y, w, h)]
            # Not the mask's nor the box's: other sizes, as polygons with holes have.
            annotations.append(dict(
                id=len(annotations) + 1, image_id=ident, category_id=int(rng.choice([5, 2])),
                bbox=box, area=box[2] * box[3] * float(rng.choice([0.2, 0.9])), iscrowd=0,
                segmentation=rectangle(box)))
            width = box[2] + rng.integers(-8, 9) / 8
            if part == 100 and rng.random() < 0.5:
                width = round(box[2] * float(rng.integers(10, 20)) * 5) / 100
            moved = [box[0], box[1], width, box[3]]
            answers.append(dict(image_id=ident, category_id=annotations[-1]['category_id'],
                                bbox=[float(v) for v in moved],
                                score=float(rng.choice([0.25, 0.5, 0.75]))))
    write_json(root / 'ann.json', dict(
        info={}, annotations=annotations, categories=[dict(id=5, name='kite'),
                                                      dict(id=2, name='boat')],
        images=[dict(id=i, file_name=f'{i}.png', height=size[0], width=size[1]) for i in ids]))
    return root, answers


def official(path, answers, iou_type):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        if iou_type == 'segm':
            masks = [truth.annToRLE(dict(a, segmentation=rectangle(a['bbox']))) for a in answers]
            answers = [dict(image_id=a['image_id'], category_id=a['category_id'], segmentation=m,
                            score=a['score']) for a, m in zip(answers, masks, strict=True)]
        evaluation = COCOeval(truth, truth.loadRes(answers), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return (evaluation.stats[:6] * 100).tolist()


@pytest.mark.parametrize('kind, task, iou_type', [
    ('CocoInstanceDataset', 'InstanceTask', 'bbox'),
    ('CocoInstanceDataset', 'InstanceTask', 'segm'),
    ('BoxDetectionDataset', 'DetectionTask', 'bbox')])
def test_ap_of_a_file_equals_pycocotools(world, tmp_path, kind, task, iou_type):
    root, answers = world
    dataset = DATASETS.build(dict(
        type=kind, data_root=str(root), ann_file='ann.json', data_prefix=dict(img='img'),
        tasks=[dict(type=task)], test_mode=True, pipeline=[
            dict(type='BuildInstructions', tokenizer=tokenizer_config(tmp_path), training=False),
            dict(type='LoadImage'), dict(type='LoadPerceptionAnnotations'),
            dict(type='PackPerceptionInputs', with_eval=True)]))
    truth = COCO.__new__(COCO)
    COCO.__init__(truth)
    metric = CocoAPMetric(iou_types=[iou_type], backend='pycocotools')
    content = json.loads((root / 'ann.json').read_text())
    labels = {category['id']: k for k, category in enumerate(content['categories'])}
    for k in range(len(dataset)):
        sample, = dataset[k]['data_samples']
        own = [a for a in answers if a['image_id'] == sample.img_id]
        boxes = np.array([a['bbox'] for a in own])
        boxes[:, 2:] += boxes[:, :2]
        truth.imgs = {sample.img_id: dict(height=120, width=160)}
        masks = [truth.annToMask(dict(a, segmentation=rectangle(a['bbox']))) for a in own]
        sample.pred_instances = make_instances(
            boxes, [a['score'] for a in own], [labels[a['category_id']] for a in own],
            np.array(masks))
        metric.process(None, [sample.to_dict()])
    found = metric.evaluate(len(dataset))
    expected = official(root / 'ann.json', answers, iou_type)
    assert [found.get(f'coco/{iou_type}_{name}', -100.) for name in NAMES] == pytest.approx(
        expected, rel=0, abs=1e-9)
    assert all(0 < value <= 100 for value in expected) and expected[0] < 99
