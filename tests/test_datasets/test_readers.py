# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from mvp_mm.datasets.captions import CaptionRefiner, CaptionStore, entropy_ratio
from mvp_mm.registry import DATASETS
from tests.test_datasets.small_data import (
    SAMPLE,
    config,
    images,
    instances,
    needs_sample,
    references,
    write_json,
)

KINDS = ('CocoPanopticDataset', 'CocoInstanceDataset', 'BoxDetectionDataset', 'RefCocoDataset',
         'GRefCocoDataset', 'GroundingDataset', 'CaptionDataset')


@pytest.mark.parametrize('kind', KINDS)
def test_item_of_every_format(tmp_path, kind):
    item = DATASETS.build(config(tmp_path, kind)).get_data_info(0)
    annotation = item['annotation']
    assert item['img_path'].endswith('img/a.jpg')
    number = dict(CocoPanopticDataset=4, CaptionDataset=0).get(kind, 3)
    assert item['boxes'].shape == (number, 4)
    assert len(annotation.labels) == len(annotation.crowd) == number
    if number:
        assert item['boxes'][0].tolist() == [2, 12, 8, 17]


def test_labels_follow_the_category_list(tmp_path):
    dataset = DATASETS.build(config(tmp_path, 'CocoPanopticDataset'))
    assert dataset.metainfo['classes'] == ('cat', 'dog', 'sky')
    assert dataset.metainfo['thing_flags'] == (True, True, False)
    annotation = dataset.get_data_info(0)['annotation']
    assert annotation.labels.tolist() == [0, 1, 1, 2]
    assert annotation.crowd.tolist() == [False, False, True, False]


def test_referrals(tmp_path):
    dataset = DATASETS.build(config(tmp_path, 'RefCocoDataset'))
    assert len(dataset) == 1
    referrals = dataset.get_data_info(0)['annotation'].referrals
    assert [(r.sentence, r.targets, r.ref_id, r.sent_id, r.kind) for r in referrals] == [
        ('the cat', [0], 1, 100, 'attribute'), ('animal on the left', [0], 1, 101, ''),
        ('the dog', [1], 2, 102, '')]
    many = DATASETS.build(config(tmp_path, 'GRefCocoDataset')).get_data_info(0)['annotation']
    assert [r.targets for r in many.referrals] == [[0, 1], [0, 1], []]


def test_grounding_phrases(tmp_path):
    annotation = DATASETS.build(config(tmp_path, 'GroundingDataset')).get_data_info(0)['annotation']
    assert annotation.caption_spans == [('a cat', [0]), ('a dog', [1, 2])]
    assert annotation.captions == ['A cat, a dog.']


def test_held_out_images_are_left_out(tmp_path):
    cfg = config(tmp_path, 'CocoInstanceDataset')
    (tmp_path / 'refs.p').write_bytes(pickle.dumps(references()))
    dataset = DATASETS.build(dict(cfg, exclude_refs=['refs.p']))
    assert [dataset.get_data_info(k)['img_id'] for k in range(len(dataset))] == [2]


def test_boxes_without_area_are_left_out(tmp_path):
    cfg = config(tmp_path, 'BoxDetectionDataset')
    content = instances()
    content['annotations'][0]['bbox'] = [3, 3, 0, 4]
    write_json(tmp_path / 'ann.json', content)
    assert len(DATASETS.build(cfg).get_data_info(0)['boxes']) == 2


@pytest.mark.parametrize('key', ['ann_file', 'img'])
def test_missing_path_is_named(tmp_path, key):
    cfg = config(tmp_path, 'CocoInstanceDataset')
    if key == 'img':
        cfg['data_prefix'] = dict(img='nowhere')
    else:
        cfg['ann_file'] = 'nowhere'
    with pytest.raises(FileNotFoundError, match='nowhere'):
        DATASETS.build(cfg)


@pytest.mark.parametrize('change, message', [
    (dict(category_id=55), 'ann.json: annotation 10 names unknown category 55'),
    (dict(image_id=9), 'ann.json: annotation 10 names unknown image 9'),
    (dict(bbox=[1, 2]), 'ann.json: annotation 10 has bbox'),
    (dict(bbox=None), 'ann.json: annotation 10 has bbox'),
])
def test_broken_annotation_is_named(tmp_path, change, message):
    cfg = config(tmp_path, 'CocoInstanceDataset')
    content = instances()
    content['annotations'][0].update(change)
    write_json(tmp_path / 'ann.json', content)
    with pytest.raises(ValueError, match=message):
        DATASETS.build(cfg)


def test_missing_key_and_bad_json_are_named(tmp_path):
    cfg = config(tmp_path, 'CocoInstanceDataset')
    content = instances()
    del content['annotations'][1]['segmentation']
    write_json(tmp_path / 'ann.json', content)
    with pytest.raises(ValueError, match='ann.json: annotation 11 lacks segmentation'):
        DATASETS.build(cfg)
    (tmp_path / 'ann.json').write_text('{')
    with pytest.raises(ValueError, match='ann.json is not valid JSON'):
        DATASETS.build(cfg)


class Harmful:

    def __reduce__(self):
        return print, ('ran',)


@pytest.mark.parametrize('content', [b'no pickle', pickle.dumps([Harmful()])])
def test_only_plain_pickles_are_read(tmp_path, capsys, content):
    cfg = config(tmp_path, 'RefCocoDataset')
    (tmp_path / 'refs(unc).p').write_bytes(content)
    with pytest.raises(ValueError, match=r'refs\(unc\).p is not a pickle of plain data'):
        DATASETS.build(cfg)
    assert 'ran' not in capsys.readouterr().out


def test_reference_to_unknown_annotation_and_split(tmp_path):
    cfg = config(tmp_path, 'RefCocoDataset')
    with pytest.raises(ValueError, match="no reference of split 'testZ'"):
        DATASETS.build(dict(cfg, split='testZ'))
    refs = references()
    refs[1]['ann_id'] = 99
    (tmp_path / 'refs(unc).p').write_bytes(pickle.dumps(refs))
    with pytest.raises(ValueError, match='reference 2 means annotation 99'):
        DATASETS.build(cfg)


def test_grounding_span_outside_the_caption(tmp_path):
    cfg = config(tmp_path, 'GroundingDataset')
    content = json.loads((tmp_path / 'ann.json').read_text())
    content['annotations'][0]['tokens_positive'] = [[3, 99]]
    write_json(tmp_path / 'ann.json', content)
    with pytest.raises(ValueError, match='ann.json: annotation 10 of image 1 has spans .* outside'):
        DATASETS.build(cfg)


def test_store_serves_captions_and_their_lack_is_an_early_error(tmp_path):
    cfg = config(tmp_path, 'CocoInstanceDataset',
                 tasks=[dict(type='InstanceTask', response='caption')])
    with pytest.raises(ValueError, match='2 of 2 images have no caption'):
        DATASETS.build(cfg)
    store = dict(captioners=['x'], captions={'a.jpg': ['A cat and a dog.', 'It might rain.'],
                                             'b.jpg': ['There is nothing here.']})
    write_json(tmp_path / 'store.json', store)
    dataset = DATASETS.build(dict(cfg, caption_store='store.json'))
    assert dataset.get_data_info(0)['annotation'].captions == ['A cat and a dog.']


def test_coco_captions_are_a_store(tmp_path):
    content = dict(images=images(), annotations=[dict(id=1, image_id=1, caption='A cat lies down')])
    store = CaptionStore(write_json(tmp_path / 'captions.json', content))
    assert store.get('a.jpg') == ['A cat lies down'] and store.get('c.jpg') == []


@pytest.mark.parametrize('caption, cleaned', [
    ('A dog runs on grass.', 'A dog runs on grass.'),
    ('A dog runs. It might be happy. The sky is blue.', 'A dog runs. The sky is blue.'),
    ('The smile indicates joy.', ''), ('Implying that he waits, a man sits.', ''),
    ('He may leave.', ''), ('A parade in May with many flags.',) * 2,
    ('The mighty dismay of a man.',) * 2, ('A dog', ''), ('', ''), ('a dog ' * 20, ''),
])
def test_refining(caption, cleaned):
    assert CaptionRefiner()(caption) == cleaned


def test_entropy_ratio():
    assert entropy_ratio('a b c d') == pytest.approx(1)
    assert entropy_ratio('a a a a') == 0


@needs_sample
def test_real_panoptic_and_captions(tmp_path):
    dataset = DATASETS.build(dict(
        type='CocoPanopticDataset', data_root=str(SAMPLE / 'coco'),
        ann_file='annotations/panoptic_val2017.json',
        data_prefix=dict(img='val2017', seg='annotations/panoptic_val2017')))
    assert len(dataset) == 100 and len(dataset.metainfo['classes']) == 133
    total = sum(len(dataset.get_data_info(k)['boxes']) for k in range(100))
    assert total == 1078
    captions = SAMPLE / 'coco/annotations/captions_train2017.json'
    store = CaptionStore(str(captions), index_dir=str(tmp_path))
    assert store.get('COCO_train2014_000000322517.jpg')


@needs_sample
@pytest.mark.parametrize('name, author, sentences', [
    ('refcoco', 'unc', 31), ('refcoco+', 'unc', 29), ('refcocog', 'umd', 9)])
def test_real_references(name, author, sentences):
    refs = pickle.loads((SAMPLE / f'refer/{name}/refs({author}).p').read_bytes())
    found = 0
    for split in sorted({ref['split'] for ref in refs}):
        dataset = DATASETS.build(dict(
            type='RefCocoDataset', data_root=str(SAMPLE / 'refer'), split=split,
            ann_file=f'{name}/refs({author}).p', instances_file=f'{name}/instances.json',
            data_prefix=dict(img='train2014')))
        for k in range(len(dataset)):
            found += len(dataset.get_data_info(k)['annotation'].referrals)
            assert np.isfinite(dataset.get_data_info(k)['boxes']).all()
    assert found == sentences
