# Copyright (c) mvp_mm authors. All rights reserved.
"""What a custom dataset's load_items may return, and what each mistake is told."""
from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mvp_mm.datasets import base
from mvp_mm.datasets.checks.check import check_dataset
from mvp_mm.datasets.item_contract import check_items
from mvp_mm.datasets.readers.tar_images import write_tar_index
from mvp_mm.registry import DATASETS
from mvp_mm.structures import Referral
from tests.test_datasets.custom_items import ItemsOfATest
from tests.test_datasets.miniature import entries, moved, write_all
from tests.test_datasets.small_data import HEIGHT, WIDTH

NAMES = ('cat', 'dog')


def good(**changes) -> dict:
    """An item with everything; a change to None takes a key away."""
    item = dict(
        img_path='img/a.jpg', img_id='a', file_name='a.jpg', height=HEIGHT, width=WIDTH,
        boxes=np.array([[2, 3, 8, 9], [10, 3, 18, 9]], dtype=np.float32),
        labels=np.array([0, 1]), crowd=np.array([False, False]),
        referrals=[Referral('the cat', [0]), ('both', [0, 1]), ('none', [], 7, 8, 'attribute')],
        captions=['A cat and a dog.'], caption_spans=[('a cat', [0])],
        segmentations=[[[2, 3, 8, 3, 8, 9]], dict(size=[HEIGHT, WIDTH], counts=[600])],
        ann_ids=[5, 6])
    return {key: value for key, value in {**item, **changes}.items() if value is not None}


MISTAKES = [
    # What a first reader gets wrong.
    (dict(file_name=None), "lacks 'file_name', the image's name below data_prefix['img']"),
    (dict(boxes=[[2, 3, 8, 9], [10, 3, 18, 9]]),
     "'boxes' must be a float32 array (n, 4) of x1, y1, x2, y2, got list"),
    (dict(referrals=[dict(sentence='the cat', targets=[0])]),
     "'referrals' entry 0 must be Referral(sentence, targets) or a tuple"),
    (dict(referrals=[('the cat', 0)]),
     "'referrals' entry 0: targets must be a list of positions in the item's boxes, got 0"),
    # Keys.
    (dict(img_path=None), "lacks 'img_path', the image's path"),
    (dict(img_id=None), "lacks 'img_id', the image's id"),
    (dict(bboxes=1), "unknown key 'bboxes', did you mean 'boxes'?"),
    (dict(caption='A cat.'), "unknown key 'caption', did you mean 'captions'?"),
    # The image.
    (dict(file_name=''), "'file_name' must be a text, got ''"),
    (dict(img_id=1.5), "'img_id' must be a whole number or a text, got 1.5"),
    (dict(width=None), "has 'height' alone: give 'height' and 'width', or neither"),
    (dict(height=0), "'height' must be a whole number of pixels, got 0"),
    (dict(height='20'), "'height' must be a whole number of pixels, got '20'"),
    # Objects.
    (dict(boxes=np.zeros((2, 4))), 'x2, y2, got float64'),
    (dict(boxes=np.zeros((2, 5), np.float32)), 'x2, y2, got float32 of shape (2, 5)'),
    (dict(boxes=np.zeros(0, np.float32)), 'x2, y2, got float32 of shape (0,)'),
    (dict(labels=[0, 1]), "'labels' must be a whole-number array (2,) for the 2 boxes, got list"),
    (dict(labels=np.zeros(3, int)), "(2,) for the 2 boxes, got int64 of shape (3,)"),
    (dict(labels=np.array([0, 2])),
     "'labels' must be -1 or positions in the 2 class names that self.set_classes was given, got "
     '[0, 2]'),
    (dict(labels=np.array([-2, 0])), 'got [-2, 0]'),
    (dict(crowd=np.array([0, 1])), "'crowd' must be a bool array (2,) for the 2 boxes, got int64"),
    (dict(boxes=None), "'labels' must be a whole-number array (0,) for the 0 boxes"),
    # Texts.
    (dict(referrals=('the cat', [0])), "'referrals' must be a list, got tuple"),
    (dict(referrals=[('the cat',)]), "'referrals' entry 0 must be Referral(sentence, targets)"),
    (dict(referrals=[('ok', [0]), (' ', [0])]),
     "'referrals' entry 1 must begin with a sentence, got ' '"),
    (dict(referrals=[Referral('the cat', (0,))]), 'targets must be a list'),
    (dict(referrals=[('the cat', [True])]), 'targets must be a list'),
    (dict(referrals=[('the cat', [2])]), 'each once, of which there are 2; got [2]'),
    (dict(referrals=[('the cat', [-1])]), 'each once, of which there are 2; got [-1]'),
    (dict(referrals=[('the cat', [0, 0])]), 'each once, of which there are 2; got [0, 0]'),
    (dict(captions='A cat.'), "'captions' must be a list, got str"),
    (dict(captions=['']), "'captions' entry 0 must be a text, got ''"),
    (dict(caption_spans=[('a cat', 0)]), "'caption_spans' entry 0: targets must be a list"),
    (dict(caption_spans=[['a cat', [0]]]), "'caption_spans' entry 0 must be a tuple"),
    # Masks.
    (dict(segmentations=[[]]),
     "'segmentations' must be a list with one entry for each of the 2 boxes"),
    (dict(segmentations=[[], 'rle']), "'segmentations' entry 1 must be a list of polygons"),
    (dict(panoptic_path='a.png', segment_ids=np.arange(2)), 'has masks twice'),
    (dict(segmentations=None, ann_ids=None, panoptic_path='a.png'),
     "'panoptic_path' and 'segment_ids' belong together"),
    (dict(segmentations=None, panoptic_path='a.png', segment_ids=[1, 2]),
     "'segment_ids' must be a whole-number array (2,) of the boxes' segments, got list"),
]


@pytest.mark.parametrize(('change', 'message'), MISTAKES)
def test_a_mistake_is_told_with_item_and_key(change, message):
    with pytest.raises(ValueError) as error:
        check_items([good(), good(**change)], 'Owner', len(NAMES))
    assert message in str(error.value)
    assert re.match(r"Owner: item 1( \(img_id .*\))? of load_items: ", str(error.value))


@pytest.mark.parametrize('items', [(), {}, None, (good(),)])
def test_items_that_are_no_list_are_told(items):
    with pytest.raises(ValueError, match='Owner: load_items must return a list of dicts, one per'):
        check_items(items, 'Owner', 0)


def test_an_item_that_is_no_dict_is_told():
    with pytest.raises(ValueError, match='Owner: item 0 of load_items must be a dict, got list'):
        check_items([[1]], 'Owner', 0)


@pytest.mark.parametrize('change', [
    {}, dict(own_key=object()), dict(height=None, width=None), dict(img_id=np.int64(3)),
    dict(labels=None, crowd=None, referrals=None, captions=None, caption_spans=None),
    dict(segmentations=None, ann_ids=None), dict(ann_ids=None),
    dict(segmentations=None, ann_ids=None, panoptic_path='a.png', segment_ids=np.arange(2)),
    dict(labels=np.array([-1, 1], dtype=np.int32)), dict(referrals=[('a cat', [np.int64(1)])])])
def test_what_is_documented_as_allowed_is_accepted(change):
    check_items([good(**change)], 'Owner', len(NAMES))


def test_the_class_and_the_file_are_named(custom):
    with pytest.raises(ValueError, match=r"^ItemsOfATest \S+ann.json: item 0 \(img_id 'a'\) of "
                                         "load_items: lacks 'file_name'"):
        custom(good(labels=None, file_name=None))


def test_labels_without_class_names_say_how_to_set_them(custom):
    with pytest.raises(ValueError, match=r'positions in the 0 class names that self.set_classes'):
        custom(good())


def test_neither_classes_nor_captions_nor_sizes_are_needed(custom):
    item = good(referrals=[('the cat', [0]), ('the dog', [1])],
                labels=None, crowd=None, height=None, width=None,
                captions=None, caption_spans=None, segmentations=None, ann_ids=None)
    dataset = custom(item, tasks=[dict(type='ReferringComprehensionTask'),
                                  dict(type='DetectionTask')])
    assert dataset.metainfo['classes'] == ()
    # No class names: the detection task asks nothing.
    samples = dataset[0]['data_samples']
    assert [sample.instruction.phrases for sample in samples] == [['the cat'], ['the dog']]
    assert {segment.text for sample in samples for segment in sample.instruction.response} == {
        'The perception result is', ''}


def test_referrals_may_be_tuples_or_objects(custom):
    referrals = custom(good(labels=None)).get_data_info(0)['annotation'].referrals
    assert referrals == [Referral('the cat', [0]), Referral('both', [0, 1]),
                         Referral('none', [], 7, 8, 'attribute')]


def test_a_segmenting_task_trains_on_boxes(custom):
    item = good(labels=None, segmentations=None, ann_ids=None)
    dataset = custom(dict(item, referrals=[('the cat', [0])]),
                     tasks=[dict(type='ReferringSegmentationTask')])
    instances = dataset[0]['data_samples'][0].gt_instances
    assert len(instances) == 1 and 'masks' not in instances


def test_boxes_left_as_xywh_are_told_at_once(custom):
    boxes = np.array([[10, 12, 6, 5]], dtype=np.float32)
    items = [dict(img_path='', img_id=k, file_name='a.jpg', boxes=boxes) for k in range(11)]
    with pytest.raises(ValueError, match=r'ann.json: 11 of 11 boxes cannot be used: image 0: box '
                                         r'\[10.0, 12.0, 6.0, 5.0\]: negative size.* were these x, '
                                         'y, width, height'):
        custom(*items)


@pytest.mark.parametrize(('box', 'reason'), [
    ([np.nan, 0, 5, 5], 'not finite'), ([2, 2, 2, 5], 'no area'),
    ([WIDTH, 0, WIDTH + 5, 5], 'outside the image')])
def test_one_bad_box_is_an_error_in_evaluation_and_bearable_in_training(custom, box, reason):
    item = good(boxes=np.array([box, [2, 3, 8, 9]], dtype=np.float32), labels=None)
    assert len(custom(item)) == 1
    with pytest.raises(ValueError, match=f'1 of 2 boxes cannot be used: image a: box .*: {reason}'):
        custom(item, training=False)


def test_a_check_reports_every_broken_item_in_the_words_of_training(custom, tmp_path):
    custom(good(labels=None))
    ItemsOfATest.items = [good(boxes=1), good(labels=None), good(labels=None, captions=[''])]
    report = check_dataset(dict(type='ItemsOfATest', data_root=str(tmp_path), ann_file='ann.json',
                                data_prefix=dict(img='img')))
    first, second = report.by_kind['item of load_items']
    assert "'boxes' must be a float32 array" in first.message and first.where == 'item 0'
    assert "'captions' entry 0 must be a text" in second.message and second.where == 'item 2'
    with pytest.raises(ValueError) as told:
        custom(*ItemsOfATest.items)
    assert first.message in str(told.value)


def test_a_check_looks_at_masks_without_annotation_ids(custom, tmp_path):
    custom(good(labels=None, ann_ids=None))
    report = check_dataset(dict(type='ItemsOfATest', data_root=str(tmp_path), ann_file='ann.json',
                                data_prefix=dict(img='img')))
    assert [fault.where for fault in report.faults] == ['annotation 1']


@pytest.fixture(scope='module')
def trees(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('trees')
    write_all(root)
    return root


def test_the_readers_that_are_not_checked_keep_to_the_contract(trees, monkeypatch):
    """Their items are checked here, once and for all; boxes that come with the map are not."""
    monkeypatch.setattr(base, 'check_boxes', lambda *args: None)
    trusted = {name for name, kind in DATASETS.module_dict.items()
               if getattr(kind, 'checks_items_itself', False)}
    checked = set()
    for cfg in entries().values():
        kind = DATASETS.get(cfg['type'])
        if cfg['type'] not in trusted:
            continue
        if cfg['type'] == 'TarCaptionDataset':
            folder = Path(moved(cfg, trees)['data_root'])
            write_tar_index(sorted(folder.glob('*.tar')), folder / cfg['ann_file'])
        monkeypatch.setattr(kind, 'checks_items_itself', False)
        dataset = DATASETS.build(dict(moved(cfg, trees), pipeline=[], tasks=[]))
        assert len(dataset)
        checked.add(cfg['type'])
    assert checked == trusted
