# Copyright (c) mvp_mm authors. All rights reserved.
"""Bad input of kinds that users of similar projects reported: read rightly, or named everywhere."""
from __future__ import annotations

import math
import pickle

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mvp_mm.datasets.checks import check_dataset
from mvp_mm.datasets.readers import refcoco
from mvp_mm.registry import DATASETS, TASKS
from tests.test_datasets.small_data import (
    BOXES,
    HEIGHT,
    WIDTH,
    instances,
    logged,
    make_config,
    rectangle,
    write_json,
    write_panoptic,
)

MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
MASK[12:18, 10:18] = 1
PACKED = coco_mask.encode(np.asfortranarray(MASK))['counts'].decode()
RUNS = [212, *[6, 14] * 7, 6, HEIGHT * WIDTH - 212 - 8 * 6 - 7 * 14]


def code(counts, size=(HEIGHT, WIDTH)):
    return dict(size=list(size), counts=counts)


def change_annotation(root, kind='CocoInstanceDataset', task='InstanceTask', training=False,
                      **changes):
    """Config of a dataset whose second annotation, 11, is changed."""
    cfg = make_config(root, kind, task, training, max_refetch=2)
    content = instances()
    content['annotations'][1].update(changes)
    write_json(root / 'ann.json', content)
    return cfg


def areas(cfg):
    """Areas of the ground truth's masks, by annotated box."""
    truth = DATASETS.build(cfg)[0]['data_samples'][0].gt_eval
    return {tuple(box): int(coco_mask.area(rle))
            for box, rle in zip(truth['bboxes'].tolist(), truth['masks'], strict=True)}


@pytest.mark.parametrize('segmentation', [
    code(RUNS), code(PACKED), code([float(run) for run in RUNS]),
    code(RUNS, (float(HEIGHT), float(WIDTH)))])
def test_every_form_of_a_sound_code_gives_the_same_masks(tmp_path, segmentation):
    sound = areas(change_annotation(tmp_path))
    assert areas(change_annotation(tmp_path, segmentation=segmentation)) == sound


@pytest.mark.parametrize('segmentation', [
    code(RUNS[:-3]), code([*RUNS, 500]), code([*RUNS[:-1], 10**8, 10**8]), code(PACKED * 30),
    code(PACKED[:4]), code(''), code(RUNS, (WIDTH, HEIGHT)), dict(counts=RUNS), None, [], [[]],
    [1, 1, 9, 1, 9, 9], [[[1, 1], [9, 1], [9, 9]]], [['1', '1', '9', '1', '9', '9']],
    [[1, 1, math.nan, 1, 9, 9]], [*rectangle(BOXES[1]), [1, 1, 2, 2]], dict(polygon=[])])
def test_a_segmentation_that_is_none_is_named_in_reading_and_in_the_check(tmp_path, segmentation):
    cfg = change_annotation(tmp_path, segmentation=segmentation)
    with pytest.raises(ValueError, match=r'ann.json, a.jpg \(image 1\), annotation 11: '):
        areas(cfg)
    assert [(fault.kind, fault.where) for fault in check_dataset(cfg).faults] == [
        ('broken mask', 'annotation 11')]


@pytest.mark.parametrize('changes, told', [
    (dict(iscrowd='0'), "annotation 11 has iscrowd '0'"),
    (dict(iscrowd=[0]), 'annotation 11 has iscrowd'),
    (dict(id=2**64), r'annotation number 1 \(image 1\) has id 18446744073709551616'),
    (dict(image_id=2**100), 'annotation 11 has image_id'),
    (dict(category_id=3.0), 'annotation 11 has category_id 3.0'),
    (dict(bbox=[10, 12, 10**400, 6]), 'annotation 11 has bbox'),
    (dict(area=math.nan), 'annotation 11 has area nan')])
def test_values_of_another_kind_are_named_in_reading_and_in_the_check(tmp_path, changes, told):
    cfg = change_annotation(tmp_path, **changes)
    with pytest.raises(ValueError, match=f'ann.json: {told}'):
        DATASETS.build(cfg)
    assert any(fault.where in told.replace('\\', '') for fault in check_dataset(cfg).faults)


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('box', [[13.2, 13.2, 1e-9, 1e-9], [13.0, 13.0, 4.0, 1e-8]])
def test_a_box_that_float32_cannot_hold_is_one_without_area(tmp_path, box, training):
    cfg = change_annotation(tmp_path, 'BoxDetectionDataset', 'DetectionTask', training, bbox=box)
    assert 'box without area' in check_dataset(cfg).by_kind
    if training:
        assert len(DATASETS.build(cfg).get_data_info(0)['boxes']) == 2
    else:
        with pytest.raises(ValueError, match='1 of 3 boxes cannot be used .* annotation 11 of'):
            DATASETS.build(cfg)


@pytest.mark.parametrize('names', [('cat', 'cat '), ('hot dog', 'hot  dog'), ('é', 'e\u0301')])
def test_class_names_that_nobody_can_tell_apart_are_refused(tmp_path, names):
    cfg = make_config(tmp_path)
    content = instances()
    content['categories'] = [dict(id=number, name=name) for number, name in zip(
        (7, 3), names, strict=True)]
    write_json(tmp_path / 'ann.json', content)
    with pytest.raises(ValueError, match='ann.json: repeated class names'):
        DATASETS.build(cfg)
    assert 'repeated class name' in check_dataset(cfg).by_kind
    with pytest.raises(ValueError, match='repeated words'):
        TASKS.build(dict(type='InstanceTask')).ask(words=list(names))


@pytest.mark.parametrize('words', [[3], [None], ['cat', '\u200b'], 7, ['\ud83d']])
def test_words_that_are_no_texts_are_refused(words):
    with pytest.raises(ValueError, match='Task detection'):
        TASKS.build(dict(type='DetectionTask')).ask(words=words)


@pytest.mark.parametrize('text', [None, 5, ' ', '\u200b', 'kite \ud83d'])
def test_a_sentence_that_is_no_text_is_refused(text):
    with pytest.raises(ValueError, match='Task referring_segmentation'):
        TASKS.build(dict(type='ReferringSegmentationTask')).ask(text=text)


def test_a_file_without_categories_is_refused(tmp_path):
    cfg = make_config(tmp_path)
    write_json(tmp_path / 'ann.json', dict(instances(), categories=[], annotations=[]))
    with pytest.raises(ValueError, match='ann.json: the list of categories is empty'):
        DATASETS.build(cfg)
    assert 'no category' in check_dataset(cfg).by_kind


def change_references(root, change, training=False):
    cfg = make_config(root, 'RefCocoDataset', 'ReferringSegmentationTask', training)
    path = root / 'refs(unc).p'
    refs = pickle.loads(path.read_bytes())
    change(refs)
    path.write_bytes(pickle.dumps(refs))
    return cfg


@pytest.mark.parametrize('text', [None, 5, '', ' \t', '\u200b', 'kite \ud83d'])
def test_a_sentence_that_is_no_text_is_left_out_of_training_only(tmp_path, monkeypatch, text):
    def change(refs):
        refs[0]['sentences'][1]['sent'] = text

    messages = logged(monkeypatch, refcoco)
    dataset = DATASETS.build(change_references(tmp_path, change, training=True))
    phrases = [s.instruction.phrases[0] for s in dataset[0]['data_samples']]
    assert sorted(phrases) == ['the cat', 'the dog']
    assert any('1 of 3 sentences are no text' in m and 'sentence 101' in m for m in messages)
    cfg = change_references(tmp_path, change)
    with pytest.raises(ValueError, match=r'refs\(unc\).p: reference 1, sentence 101 has sent'):
        DATASETS.build(cfg)
    assert ('broken text', 'reference 1, sentence 101') in {
        (fault.kind, fault.where) for fault in check_dataset(cfg).faults}


def test_annotation_ids_may_be_texts_for_objects_and_references_alike(tmp_path):
    def change(refs):
        for ref in refs:
            ref['ann_id'] = f'a{ref["ann_id"]}'

    cfg = change_references(tmp_path, change)
    content = instances()
    for annotation in content['annotations']:
        annotation['id'] = f'a{annotation["id"]}'
    write_json(tmp_path / 'instances.json', content)
    item = DATASETS.build(cfg).get_data_info(0)
    assert item['ann_ids'] == ['a10', 'a11', 'a12']
    assert [referral.targets for referral in item['annotation'].referrals] == [[0], [0], [1]]
    content['annotations'][0]['id'] = 'a11'
    write_json(tmp_path / 'instances.json', content)
    with pytest.raises(ValueError, match="reference 1 means annotation 'a10', which image 1 does"):
        DATASETS.build(cfg)


def test_a_reference_to_an_id_that_comes_twice_is_named(tmp_path):
    cfg = change_references(tmp_path, lambda refs: None)
    content = instances()
    content['annotations'][1]['id'] = 10
    write_json(tmp_path / 'instances.json', content)
    with pytest.raises(ValueError, match='reference 1 means annotation 10, which image 1 has more'):
        DATASETS.build(cfg)


@pytest.mark.parametrize('targets, message', [
    ([10, 10], 'means annotation 10 more than once'), ([10, -1], r'annotation 10 and none \(-1\)'),
    (['10'], "means annotation '10', which image 1 does not have"), ([[10]], 'has ann_id'),
    (None, 'has ann_id None')])
def test_impossible_targets_are_named(tmp_path, targets, message):
    cfg = make_config(tmp_path, 'GRefCocoDataset', 'GeneralizedReferringTask')
    refs = [dict(ref_id=1, ann_id=targets, image_id=1, split='train',
                 sentences=[dict(sent='both', sent_id=1)])]
    write_json(tmp_path / 'grefs(unc).json', refs)
    with pytest.raises(ValueError, match=rf'grefs\(unc\).json: reference 1 .*{message}'):
        DATASETS.build(cfg)
    assert any(fault.where == 'reference 1' for fault in check_dataset(cfg).faults)


def shrunk(root, training, kind='CocoInstanceDataset', task='InstanceTask'):
    """Targets of the first image, shown at a sixth of its size."""
    cfg = make_config(root, kind, task, training)
    cfg['pipeline'][3]['scale'] = (5, 5)
    if kind == 'CocoInstanceDataset':
        content = instances()
        box = [10, 12, 1, 1]
        content['annotations'][1].update(bbox=box, segmentation=rectangle(box))
        content['annotations'][2].update(iscrowd=0)
        write_json(root / 'ann.json', content)
    return DATASETS.build(cfg)[0]['data_samples'][0]


def test_an_object_without_a_pixel_on_the_canvas_is_no_target_of_training(tmp_path):
    assert len(shrunk(tmp_path, training=True).gt_instances) == 2
    sample = shrunk(tmp_path, training=False)
    assert len(sample.gt_instances) == len(sample.gt_eval['bboxes']) == 3


def test_an_object_without_a_pixel_in_its_image_is_no_target_of_training(tmp_path):
    outside = [[40, 40, 50, 40, 50, 50]]
    cfg = change_annotation(tmp_path, training=True, segmentation=outside)
    assert len(DATASETS.build(cfg)[0]['data_samples'][0].gt_instances) == 1


def test_a_segment_without_a_pixel_on_the_canvas_is_no_target_of_training(tmp_path):
    cfg = make_config(tmp_path, 'CocoPanopticDataset', 'PanopticTask', training=True)
    content = write_panoptic(tmp_path)
    content['annotations'][0]['segments_info'].append(
        dict(id=9, category_id=7, bbox=[1, 18, 1, 1], iscrowd=0))
    write_json(tmp_path / 'ann.json', content)
    segments = cv2.imread(str(tmp_path / 'seg/a.png'))
    segments[18, 1] = (0, 0, 9)
    cv2.imwrite(str(tmp_path / 'seg/a.png'), segments)
    assert len(DATASETS.build(cfg)[0]['data_samples'][0].gt_instances) == 4
    cfg['pipeline'][3]['scale'] = (15, 15)
    assert len(DATASETS.build(cfg)[0]['data_samples'][0].gt_instances) == 3
