# Copyright (c) mvp_mm authors. All rights reserved.
"""What becomes of training images that have no caption."""
from __future__ import annotations

import json
import logging

import pytest

from mvp_mm.datasets import image_selection
from mvp_mm.registry import DATASETS
from tests.test_datasets.small_data import config, write_json


def images_with_captions(*captioned: bool) -> list[dict]:
    return [dict(img_path='', img_id=k, file_name=f'{k}.jpg',
                 **(dict(captions=['A cat.']) if has else {}))
            for k, has in enumerate(captioned)]


def warnings_of(monkeypatch) -> list[str]:
    told: list[str] = []

    def note(message, level=logging.INFO, **kwargs):
        if level == logging.WARNING:
            told.append(message)
    monkeypatch.setattr(image_selection, 'print_log', note)
    return told


def test_a_dataset_without_captions_answers_without_by_default_and_says_so(custom, monkeypatch):
    told = warnings_of(monkeypatch)
    assert len(custom(*images_with_captions(False, False), tasks=[dict(type='InstanceTask')])) == 2
    assert told == ['ann.json: no captions and no caption_store: the response of instance is the '
                    'result alone']


def test_captions_that_are_asked_for_are_needed(custom):
    with pytest.raises(ValueError, match='2 of 2 images have no caption .for example 0.jpg'):
        custom(*images_with_captions(False, False),
               tasks=[dict(type='InstanceTask', response='caption')])


@pytest.mark.parametrize('response', ['auto', 'caption'])
def test_a_captioned_dataset_refuses_images_without(custom, response):
    with pytest.raises(ValueError, match=r"1 of 3 images have no caption \(for example 1.jpg\), "
                                         r"which task instance needs: .*'leave_out'"):
        custom(*images_with_captions(True, False, True),
               tasks=[dict(type='InstanceTask', response=response)])


@pytest.mark.parametrize('stored', [False, True])
def test_images_without_captions_are_left_out_on_request_and_counted(
        custom, tmp_path, monkeypatch, stored):
    told: list[str] = []
    monkeypatch.setattr(
        image_selection, 'print_log', lambda message, **kwargs: told.append(message))
    items = images_with_captions(True, False, True)
    changes = {}
    if stored:
        write_json(tmp_path / 'store.json', dict(
            captioners=['x'], captions={'0.jpg': ['There is a cat on the mat.'], '1.jpg': [],
                                        '2.jpg': ['There is a dog on the mat.']}))
        items, changes = images_with_captions(False, False, False), dict(caption_store='store.json')
    tasks = [dict(type='InstanceTask', missing_caption='leave_out'), dict(type='DetectionTask',
                                                                        response='none')]
    dataset = custom(*items, tasks=tasks, **changes)
    assert [dataset.file_name(k) for k in range(len(dataset))] == ['0.jpg', '2.jpg']
    assert told == ['ann.json: 1 images (33.33%) left out that have no caption (for example 1.jpg)']
    assert len(custom(*items, tasks=tasks, training=False, **changes)) == 3


def test_a_task_that_needs_captions_beside_one_that_leaves_out_is_an_error(custom):
    with pytest.raises(ValueError, match='which task detection needs'):
        custom(*images_with_captions(True, False), tasks=[
            dict(type='InstanceTask', missing_caption='leave_out'), dict(type='DetectionTask')])


def test_nothing_left_is_an_error(custom, tmp_path):
    write_json(tmp_path / 'store.json', dict(captioners=['x'], captions={'x.jpg': ['A cat sits']}))
    with pytest.raises(ValueError, match='ann.json: no image is left'):
        custom(*images_with_captions(False), caption_store='store.json',
               tasks=[dict(type='InstanceTask', missing_caption='leave_out')])


def test_an_indexed_dataset_leaves_out_the_same(tmp_path):
    cfg = config(tmp_path, 'CocoInstanceDataset', caption_store='store.json',
                 tasks=[dict(type='InstanceTask', missing_caption='leave_out')])
    (tmp_path / 'store.json').write_text(json.dumps(
        dict(captioners=['x'], captions={'b.jpg': ['There is nothing to be seen.']})))
    dataset = DATASETS.build(cfg)
    assert [dataset.get_data_info(k)['img_id'] for k in range(len(dataset))] == [2]
