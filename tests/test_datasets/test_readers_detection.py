# Copyright (c) mvp_mm authors. All rights reserved.
"""Objects365, LVIS and ODVG detection: names, paths, and what is left out."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mvp_mm.datasets.readers.objects365 import KNOWN_BAD
from mvp_mm.datasets.vocabulary.objects365_names import NAME_FIXES, tidy_name
from mvp_mm.registry import DATASETS
from tests.test_datasets.miniature import entries, moved, write_coco, write_objects365, write_refer
from tests.test_datasets.small_data import BOXES, SAMPLE, needs_sample, write_json

ENTRIES = entries()


@pytest.fixture
def objects365(tmp_path):
    write_objects365(tmp_path / 'objects365')
    return moved(ENTRIES['objects365_train'], tmp_path)


def test_published_paths_lead_to_the_unpacked_tree(objects365):
    item = DATASETS.build(objects365).get_data_info(0)
    assert item['img_path'].endswith('/objects365/train/patch8/objects365_v1_00420917.jpg')
    assert item['file_name'] == 'images/v1/patch8/objects365_v1_00420917.jpg'


def test_validation_keeps_the_published_folders(tmp_path):
    write_objects365(tmp_path / 'objects365')
    dataset = DATASETS.build(moved(ENTRIES['objects365_val'], tmp_path))
    assert dataset.get_data_info(0)['img_path'].endswith(
        '/val/images/v2/patch16/objects365_v2_00908727.jpg')


def test_names_are_tidied(objects365):
    assert DATASETS.build(objects365).metainfo['classes'] == (
        'person', 'monitor/tv', 'table tennis')


def test_images_known_to_be_missing_are_left_out_and_counted(objects365, monkeypatch):
    logged = []
    monkeypatch.setattr('mvp_mm.datasets.image_selection.print_log',
                        lambda text, **kwargs: logged.append(text))
    dataset = DATASETS.build(objects365)
    assert [dataset.get_data_info(k)['img_id'] for k in range(len(dataset))] == [5]
    assert logged == ['zhiyuan_objv2_train.json: 1 images left out that are known to be missing or '
                      'broken']


def test_the_missing_images_are_those_mmdetection_names():
    objects365 = pytest.importorskip('mmdet.datasets.objects365')
    assert set(objects365.objv2_ignore_list) <= KNOWN_BAD.keys()


def test_the_published_names_become_the_corrected_list():
    """mmdet ships the names as published; a tidy list must differ by the fixes alone."""
    objects365 = pytest.importorskip('mmdet.datasets.objects365')
    published = [' '.join(name.split())
                 for name in objects365.Objects365V2Dataset.METAINFO['classes']]
    changed = {name for name in published if tidy_name(name) != name.lower()}
    assert len({tidy_name(name) for name in published}) == 365
    assert changed == {name for name in NAME_FIXES if name in published}


@needs_sample
def test_every_spelling_of_the_sample_list_ends_at_the_same_names():
    objects365 = pytest.importorskip('mmdet.datasets.objects365')
    published = objects365.Objects365V2Dataset.METAINFO['classes']
    listed = (SAMPLE / 'class_names/objects365_365.txt').read_text().splitlines()
    assert [tidy_name(name) for name in published] == [tidy_name(name) for name in listed]


@pytest.fixture
def lvis(tmp_path):
    write_coco(tmp_path / 'coco')
    write_refer(tmp_path / 'refer')
    return moved(ENTRIES['lvis_val'], tmp_path)


def test_lvis_images_lie_where_their_url_says(lvis):
    item = DATASETS.build(lvis).get_data_info(0)
    assert item['img_path'].endswith('/coco/val2017/000000000003.jpg')
    assert len(item['segmentations']) == len(item['boxes']) == 3
    assert item['boxes'][1].tolist() == [10, 12, 18, 18]


def test_lvis_names_are_written_with_spaces(lvis):
    assert DATASETS.build(lvis).metainfo['classes'] == (
        'person', 'dog', 'bat (animal)', 'sky', 'trash can')


def test_lvis_asks_about_verified_names_only(lvis):
    """Dogs are annotated, but not all of them: they are neither right nor wrong."""
    annotation = DATASETS.build(lvis).get_data_info(0)['annotation']
    assert annotation.vocabulary == ('person', 'bat (animal)', 'trash can')
    assert annotation.labels.tolist() == [0, 0, -1]
    assert annotation.crowd.tolist() == [False, False, True]
    assert len(annotation.vocabulary_is_thing) == 3


def test_lvis_with_all_names_keeps_what_is_known_of_them(lvis):
    item = DATASETS.build(dict(lvis, listed='all')).get_data_info(0)
    assert len(item['annotation'].vocabulary) == 5
    assert item['annotation'].labels.tolist() == [0, 0, 1]
    assert item['neg_labels'].tolist() == [2, 4]
    assert item['not_exhaustive_labels'].tolist() == [1]


@pytest.mark.parametrize('change, message', [
    (dict(neg_category_ids=[77]), 'image 3 names unknown category 77'),
    (dict(coco_url=None), 'image 3 lacks coco_url')])
def test_lvis_names_a_broken_image(lvis, change, message):
    dataset = DATASETS.build(lvis)
    path = Path(dataset.ann_file)
    content = json.loads(path.read_text())
    image = content['images'][0] | change
    content['images'] = [{key: value for key, value in image.items() if value is not None}]
    write_json(path, content)
    with pytest.raises(ValueError, match=message):
        DATASETS.build(lvis)


def test_lvis_refuses_an_unknown_mode(lvis):
    with pytest.raises(ValueError, match="'all' or 'verified', got 'some'"):
        DATASETS.build(dict(lvis, listed='some'))


@pytest.fixture
def odvg(tmp_path):
    write_objects365(tmp_path / 'objects365')
    return moved(ENTRIES['odvg_detection'], tmp_path)


def test_odvg_names_can_be_those_of_objects365(odvg, tmp_path):
    write_json(tmp_path / 'objects365' / odvg['label_map_file'], {'0': 'Person', '1': 'Moniter/TV'})
    assert DATASETS.build(odvg).metainfo['classes'] == ('person', 'monitor/tv')
    plain = DATASETS.build(dict(odvg, name_style=None))
    assert plain.metainfo['classes'] == ('Person', 'Moniter/TV')


def test_odvg_boxes_are_corners_and_those_outside_are_left_out(odvg):
    item = DATASETS.build(odvg).get_data_info(0)
    x, y, w, h = np.transpose(BOXES[:2])
    assert np.array_equal(item['boxes'], np.stack([x, y, x + w, y + h], 1))
    assert item['annotation'].labels.tolist() == [0, 1]


@pytest.mark.parametrize('line, message', [
    ('{"filename": 3', 'line 1 is not valid JSON'),
    ('{"filename": "a.jpg", "height": 2, "width": 2}', r'line 1 \(a.jpg\) has no detection'),
    ('{"filename": "a.jpg", "height": 2}', 'line 1 lacks width'),
    ('{"filename": "a.jpg", "height": 2, "width": 2, "detection": {"instances": [{"bbox": [0, 0, 1,'
     ' 1], "label": 9}]}}', 'has label 9'),
    ('{"filename": "a.jpg", "height": 2, "width": 2, "detection": {"instances": [{"bbox": [0, 0],'
     ' "label": 0}]}}', r'has bbox \[0, 0\]')])
def test_odvg_names_a_broken_line(odvg, tmp_path, line, message):
    (tmp_path / 'broken.jsonl').write_text(line + '\n')
    with pytest.raises(ValueError, match=message):
        DATASETS.build(dict(odvg, ann_file=str(tmp_path / 'broken.jsonl')))
