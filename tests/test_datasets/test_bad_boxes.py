# Copyright (c) mvp_mm authors. All rights reserved.
"""Boxes that cannot be used: an error in evaluation, counted and logged in training."""
from __future__ import annotations

import json

import numpy as np
import pytest

from mvp_mm.datasets.indexing import box_faults as box_rule
from mvp_mm.datasets.indexing.box_faults import box_faults
from mvp_mm.registry import DATASETS
from tests.test_datasets.small_data import (
    HEIGHT,
    WIDTH,
    config,
    instances,
    logged,
    make_config,
    write_json,
    write_panoptic,
)


@pytest.mark.parametrize('box, fault', [
    ([5, 5, 3, 3], 0), ([np.nan, 5, 3, 3], 1), ([5, 5, np.inf, 3], 1), ([5, 5, -3, 3], 2),
    ([5, 5, 0, 3], 3), ([40, 5, 3, 3], 4), ([-9, 5, 9, 3], 4), ([-2, -2, 5, 5], 0),
    ([5, 5, 1e6, 3], 0), ([5, 5, 2e6, 3], 5), ([-2e6, 5, 3e6, 3], 5), ([5, 5, 3.4e38, 3], 5)])
def test_faults_of_boxes(box, fault):
    assert box_faults([box], np.array([20]), np.array([30])).tolist() == [fault]


BAD_BOXES = [([3, 3, 0, 4], 'no area'), ([99, 99, 5, 5], 'outside'),
             ([float('nan'), 1, 5, 5], 'not finite'), ([9, 9, -4, 5], 'negative size'),
             ([3, 3, 3.4e38, 4], 'beyond 1048576 pixels')]


@pytest.mark.parametrize('box, reason', BAD_BOXES)
def test_unusable_boxes_are_an_error_in_evaluation(tmp_path, box, reason):
    cfg = make_config(tmp_path)
    content = instances()
    content['annotations'][0]['bbox'] = box
    write_json(tmp_path / 'ann.json', content)
    with pytest.raises(ValueError, match=rf'ann.json.*annotation 10 of image 1.*{reason}'):
        DATASETS.build(cfg)


@pytest.mark.parametrize('box, reason', BAD_BOXES)
def test_unusable_boxes_are_left_out_and_logged_in_training(tmp_path, monkeypatch, box, reason):
    messages = logged(monkeypatch, box_rule)
    cfg = make_config(tmp_path, training=True)
    content = instances()
    content['annotations'][0]['bbox'] = box
    write_json(tmp_path / 'ann.json', content)
    dataset = DATASETS.build(cfg)
    assert len(dataset.get_data_info(0)['boxes']) == 2
    assert len(messages) == 1 and 'annotation 10 of image 1' in messages[0]
    assert reason in messages[0]


def test_too_many_unusable_boxes_stop_the_run(tmp_path):
    content = instances()
    content['annotations'] = [
        dict(content['annotations'][0], id=k, bbox=[1, 1, 0, 0]) for k in range(20)]
    cfg = make_config(tmp_path, training=True)
    write_json(tmp_path / 'ann.json', content)
    with pytest.raises(ValueError, match='more than max_bad_share=0.01: 20 of 20 boxes'):
        DATASETS.build(cfg)


def spoil_box(root, kind, box):
    """Give a target of every reader an unusable box (xywh); returns the config's file."""
    if kind == 'CocoPanopticDataset':
        content = write_panoptic(root)
        content['annotations'][0]['segments_info'][1]['bbox'] = box
        return write_json(root / 'ann.json', content)
    if kind == 'OdvgDataset':
        x, y, w, h = box
        regions = [dict(phrase='a cat', bbox=[1, 1, 5, 5]),
                   dict(phrase='a dog', bbox=[x, y, x + w, y + h])]
        line = dict(filename='a.jpg', height=HEIGHT, width=WIDTH,
                    grounding=dict(caption='a cat and a dog', regions=regions))
        (root / 'ann.jsonl').write_text(json.dumps(line) + '\n')
        return None
    path = root / ('instances.json' if 'RefCoco' in kind else 'ann.json')
    content = json.loads(path.read_text())
    content['annotations'][0]['bbox'] = box
    if kind == 'LvisDataset':
        content['images'] = [
            dict(id=1, height=HEIGHT, width=WIDTH, coco_url='http://x/img/a.jpg',
                 neg_category_ids=[], not_exhaustive_category_ids=[])]
    return write_json(path, content)


EVERY_READER = ('CocoInstanceDataset', 'BoxDetectionDataset', 'CocoPanopticDataset',
                'RefCocoDataset', 'GRefCocoDataset', 'GroundingDataset', 'LvisDataset',
                'OdvgDataset')


def reader_config(root, kind, **changes):
    if kind == 'OdvgDataset':
        cfg = dict(config(root, 'BoxDetectionDataset'), type=kind, ann_file='ann.jsonl')
    elif kind == 'LvisDataset':
        cfg = dict(config(root, 'CocoInstanceDataset'), type=kind, data_prefix=dict(img=''))
    else:
        cfg = config(root, kind)
    return {**cfg, **changes}


@pytest.mark.parametrize('kind', EVERY_READER)
@pytest.mark.parametrize('box, reason', BAD_BOXES)
def test_every_reader_refuses_unusable_boxes_in_evaluation(tmp_path, kind, box, reason):
    cfg = reader_config(tmp_path, kind, test_mode=True)
    spoil_box(tmp_path, kind, box)
    with pytest.raises(ValueError, match=rf'1 of \d+ boxes cannot be used .*{reason}'):
        DATASETS.build(cfg)


@pytest.mark.parametrize('kind', EVERY_READER)
def test_every_reader_counts_and_logs_unusable_boxes_in_training(tmp_path, monkeypatch, kind):
    messages = logged(monkeypatch, box_rule)
    cfg = reader_config(tmp_path, kind)
    spoil_box(tmp_path, kind, [3, 3, 0, 4])
    dataset = DATASETS.build(cfg)
    assert len(messages) == 1 and 'left out: 1 of' in messages[0] and 'no area' in messages[0]
    for idx in range(len(dataset)):
        item = dataset.get_data_info(idx)
        assert (item['boxes'][:, 2:] > item['boxes'][:, :2]).all()


def test_references_of_an_unusable_box_are_left_out_in_training(tmp_path):
    cfg = reader_config(tmp_path, 'RefCocoDataset')
    before = DATASETS.build(cfg).get_data_info(0)['annotation'].referrals
    spoil_box(tmp_path, 'RefCocoDataset', [3, 3, 0, 4])
    after = DATASETS.build(cfg).get_data_info(0)['annotation'].referrals
    assert {r.ref_id for r in before} == {1, 2} and {r.ref_id for r in after} == {2}


def test_an_unusable_box_that_no_reference_means_does_no_harm(tmp_path):
    cfg = reader_config(tmp_path, 'RefCocoDataset', test_mode=True)
    content = instances()
    content['annotations'][2]['bbox'] = [3, 3, 0, 4]
    write_json(tmp_path / 'instances.json', content)
    assert len(DATASETS.build(cfg).get_data_info(0)['annotation'].referrals) == 3
