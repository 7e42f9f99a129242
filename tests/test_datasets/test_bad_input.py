# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import json
import pickle

import pytest
from mmengine.dataset import BaseDataset
from torch.utils.data import DataLoader

from mvp_mm.datasets import tolerant as bad_samples
from mvp_mm.datasets.indexing.coco import CocoIndex
from mvp_mm.datasets.indexing.layout import MaskLayout
from mvp_mm.datasets.tolerant import TolerantDataset, TooManyBadSamples
from mvp_mm.registry import DATASETS
from tests.test_datasets.small_data import (
    config,
    instances,
    logged,
    make_config,
    write_json,
    write_panoptic,
)


@pytest.mark.parametrize('kind', ['CocoInstanceDataset', 'BoxDetectionDataset'])
def test_unknown_category_is_named(tmp_path, kind):
    cfg = config(tmp_path, kind)
    content = instances()
    content['annotations'][1]['category_id'] = 55
    write_json(tmp_path / 'ann.json', content)
    with pytest.raises(ValueError, match='ann.json: annotation 11 names unknown category 55'):
        DATASETS.build(cfg)


@pytest.mark.parametrize('change, message', [
    (dict(id=999), r'no pixel has the annotated segment ids \[999\]'),
    (None, r'segment ids \[5\] are not in the annotation')])
def test_a_png_with_other_ids_is_named(tmp_path, change, message):
    cfg = make_config(tmp_path, 'CocoPanopticDataset', 'PanopticTask')
    content = write_panoptic(tmp_path)
    segments = content['annotations'][0]['segments_info']
    if change:
        segments[1].update(change)
    else:
        segments.pop(1)
    write_json(tmp_path / 'ann.json', content)
    with pytest.raises(ValueError, match=rf'a.png \(image 1\): {message}'):
        DATASETS.build(cfg)[0]


def test_rle_of_another_size_is_named(tmp_path):
    cfg = make_config(tmp_path)
    content = instances()
    content['annotations'][1]['segmentation'] = dict(size=[9, 9], counts=[81])
    write_json(tmp_path / 'ann.json', content)
    with pytest.raises(ValueError, match=r'a.jpg \(image 1\), annotation 11: RLE of size \[9, 9\]'):
        DATASETS.build(cfg)[0]


def test_a_file_without_annotations_is_read(tmp_path):
    content = instances()
    content['annotations'] = []
    cfg = make_config(tmp_path)
    write_json(tmp_path / 'ann.json', content)
    assert len(DATASETS.build(cfg)[0]['data_samples'][0].gt_instances) == 0


@pytest.mark.parametrize('training', [False, True])
def test_an_over_long_expression_is_refused(tmp_path, training):
    cfg = make_config(tmp_path, 'RefCocoDataset', 'ReferringSegmentationTask', training,
                      max_bad_share=0)
    refs = pickle.loads((tmp_path / 'refs(unc).p').read_bytes())
    refs[0]['sentences'][0]['sent'] = 'so ' * 2000
    (tmp_path / 'refs(unc).p').write_bytes(pickle.dumps(refs))
    where = r'refs\(unc\).p, a.jpg \(image 1\), reference 1, sentence 100'
    with pytest.raises((ValueError, TooManyBadSamples), match=f'{where}: .*exceed max_length'):
        DATASETS.build(cfg)[0]


@pytest.mark.parametrize('name, message', [
    ('dog', 'repeated class names'), (' ', "category 7 has name ' '")])
def test_repeated_and_empty_class_names_are_refused(tmp_path, name, message):
    cfg = config(tmp_path, 'CocoInstanceDataset')
    content = instances()
    content['categories'] = [dict(id=7, name=name), dict(id=3, name='dog')]
    write_json(tmp_path / 'ann.json', content)
    with pytest.raises(ValueError, match=f'ann.json: {message}'):
        DATASETS.build(cfg)


def test_pickles_of_the_wrong_kind_are_named(tmp_path):
    cfg = config(tmp_path, 'RefCocoDataset')
    (tmp_path / 'refs(unc).p').write_bytes(pickle.dumps(dict(refs=1)))
    with pytest.raises(ValueError, match=r'refs\(unc\).p: expected a list'):
        DATASETS.build(cfg)


@pytest.mark.parametrize('turns', [['hello'], 'hello', dict(value='x'), None])
def test_conversations_of_another_type_are_named(tmp_path, turns):
    cfg = config(tmp_path, 'CaptionDataset')
    write_json(tmp_path / 'chat.json', [dict(id='7', image='a.jpg', conversations=turns)])
    with pytest.raises(ValueError, match='record 7 has conversations .*, expected a list'):
        DATASETS.build(cfg)


@pytest.mark.parametrize('change, message', [
    (dict(sentences=5), 'reference 1 has sentences 5, expected a list'),
    (dict(sentences=[5]), 'reference 1, sentence number 0 must be an object, got 5'),
    (dict(image_id=[1]), r'reference 1 has image_id \[1\], expected a whole number')])
def test_references_of_another_type_are_named(tmp_path, change, message):
    cfg = config(tmp_path, 'RefCocoDataset')
    refs = pickle.loads((tmp_path / 'refs(unc).p').read_bytes())
    refs[0].update(change)
    (tmp_path / 'refs(unc).p').write_bytes(pickle.dumps(refs))
    with pytest.raises(ValueError, match=rf'refs\(unc\).p: {message}'):
        DATASETS.build(cfg)


def test_every_given_prefix_must_exist(tmp_path):
    cfg = config(tmp_path, 'GroundingDataset', data_prefix=dict(img='img', coco='gone'))
    with pytest.raises(FileNotFoundError, match="gone, data_prefix\\['coco'\\], does not exist"):
        DATASETS.build(cfg)


class Items(TolerantDataset):
    """Hundred items; those of ``bad`` cannot be read, those of ``unasked`` give nothing."""

    def __init__(self, bad=(), unasked=(), **kwargs):
        self.bad, self.unasked = set(bad), set(unasked)
        super().__init__(ann_file='items.json', **kwargs)

    def load_data_list(self):
        return [dict(value=k) for k in range(100)]

    def prepare_data(self, idx):
        if idx in self.bad:
            raise ValueError(f'item {idx} is broken')
        return None if idx in self.unasked else idx


def test_bad_samples_are_replaced_counted_and_logged_once(monkeypatch):
    messages = logged(monkeypatch, bad_samples)
    dataset = Items(bad=[3, 4])
    first = [dataset[k] for k in range(6)]
    assert [dataset[k] for k in range(6)] == first
    assert first[:3] == [0, 1, 2] and first[5] == 5 and not {3, 4} & set(first)
    assert dataset.num_bad == 4
    assert [m.split(': ', 1)[1] for m in messages] == [
        f'Items items.json, item {k}: ValueError: item {k} is broken' for k in (3, 4)]


def test_a_share_of_bad_samples_stops_the_run():
    dataset = Items(bad=range(0, 100, 2), max_bad_share=0.1)
    with pytest.raises(TooManyBadSamples, match='are bad, more than max_bad_share=0.1.*is broken'):
        for k in range(100):
            dataset[k]


def test_a_share_of_zero_lets_none_through():
    with pytest.raises(TooManyBadSamples, match='1 of 1 samples'):
        Items(bad=[0], max_bad_share=0)[0]


def test_samples_below_the_share_do_not_stop_the_run():
    dataset = Items(bad=range(11), max_bad_share=0.5)
    assert len([dataset[k] for k in reversed(range(100))]) == 100


def test_evaluation_raises():
    with pytest.raises(ValueError, match='item 3 is broken'):
        Items(bad=[3], test_mode=True)[3]
    with pytest.raises(ValueError, match='items.json, item 3: the pipeline returned nothing'):
        Items(unasked=[3], test_mode=True)[3]


def test_items_without_a_question_are_not_bad():
    dataset = Items(unasked=range(50))
    assert dataset[0] >= 50 and dataset.num_bad == 0


def test_the_search_for_another_item_is_bounded():
    with pytest.raises(ValueError, match='neither it nor 7 others'):
        Items(unasked=range(100), max_refetch=7)[0]


def test_faults_of_the_code_are_not_bad_input():
    class Broken(Items):
        def prepare_data(self, idx):
            raise KeyError(idx)

    with pytest.raises(KeyError):
        Broken()[0]


@pytest.mark.parametrize('method, workers', [('fork', 2), ('spawn', 1)])
def test_workers_count_together(method, workers):
    dataset = Items(bad=[50, 97])
    loader = DataLoader(dataset, batch_size=5, num_workers=workers, persistent_workers=True,
                        multiprocessing_context=method)
    for expected in (2, 4):
        assert sum(len(batch) for batch in loader) == 100
        assert dataset.num_bad == expected


def test_subsets_count_for_themselves():
    dataset = Items(bad=[0])
    dataset[0]
    subset = dataset.get_subset(10)
    assert subset.num_bad == 0 and len(subset) == 10 and isinstance(subset, BaseDataset)


def test_a_broken_image_is_replaced_in_training(tmp_path):
    dataset = DATASETS.build(make_config(tmp_path, training=True))
    (tmp_path / 'img' / 'a.jpg').write_bytes(b'')
    assert dataset[0]['data_samples'][0].img_id == 2
    assert dataset.num_bad >= 1


def test_a_record_that_changed_under_an_open_index_is_an_error(tmp_path):
    path = tmp_path / 'ann.json'
    write_json(path, instances())
    index = CocoIndex(str(path), MaskLayout(), keep_in_memory=0)
    objects = index.image(0)[1]
    path.write_text(json.dumps(instances()).replace('"id": 10', '"id":10 '))
    path.write_bytes(b' ' * 4 + path.read_bytes())
    with pytest.raises(ValueError, match='ann.json'):
        index.records(objects)
