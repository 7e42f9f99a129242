# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from mvp_mm.datasets import image_selection
from mvp_mm.datasets.indexing import coco, json_stream
from mvp_mm.datasets.indexing.coco import CocoIndex
from mvp_mm.datasets.indexing.layout import MaskLayout
from mvp_mm.registry import DATASETS
from tests.test_datasets.index_content import open_on_disk, random_content, write
from tests.test_datasets.small_data import (
    config,
    instances,
    references,
    write_images,
    write_json,
    write_panoptic,
)


@pytest.mark.parametrize('on_disk', [False, True])
@pytest.mark.parametrize('ascii_only', [False, True])
def test_tables_hold_what_the_file_holds(tmp_path, monkeypatch, on_disk, ascii_only):
    monkeypatch.setattr(json_stream, '_WINDOW', 100)
    path = write(tmp_path / 'ann.json', random_content(), ensure_ascii=ascii_only, indent=1)
    index = CocoIndex(path, MaskLayout(), keep_in_memory=0 if on_disk else 1 << 20)
    content = random_content()
    assert index.categories == content['categories']
    assert index.image_ids().tolist() == [image['id'] for image in content['images']]
    assert list(index.file_names()) == [image['file_name'] for image in content['images']]
    for row, image in enumerate(content['images']):
        found, objects = index.image(row)
        wanted = [a for a in content['annotations'] if a['image_id'] == image['id']]
        assert found == image and index.file_name(row) == image['file_name']
        assert objects['ident'].tolist() == [a['id'] for a in wanted]
        for one, annotation in zip(objects, wanted, strict=True):
            x, y, w, h = annotation['bbox']
            assert one['box'].tolist() == np.float32([x, y, x + w, y + h]).tolist()
            assert index.categories[one['label']]['id'] == annotation['category_id']
            assert one['crowd'] == annotation['iscrowd']
        assert index.records(objects) == wanted


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_an_open_index_can_be_copied(tmp_path, copied):
    path = write(tmp_path / 'ann.json', random_content())
    index = CocoIndex(path, keep_in_memory=0)
    index.image(0)
    assert copied(index).image(3)[0] == index.image(3)[0]


@pytest.mark.parametrize('change, message', [
    (dict(image_id=9), 'annotation 10 names unknown image 9'),
    (dict(image_id='1'), 'annotation 10 has image_id'),
    (dict(bbox=[1, 2, 3, 'x']), 'annotation 10 has bbox'),
])
def test_broken_annotations_are_named(tmp_path, change, message):
    content = instances()
    content['annotations'][0].update(change)
    with pytest.raises(ValueError, match=message):
        CocoIndex(write_json(tmp_path / 'ann.json', content))


@pytest.mark.parametrize('change, message', [
    (dict(id=2), 'image 2 occurs twice'), (dict(file_name=''), "image 1 has file_name ''"),
    (dict(height=0), 'image 1 has height 0'),
    (dict(id='x'), "image x has id 'x', expected a whole number"),
])
def test_broken_images_are_named(tmp_path, change, message):
    content = instances()
    content['images'][0].update(change)
    with pytest.raises(ValueError, match=message):
        CocoIndex(write_json(tmp_path / 'ann.json', content))


@pytest.mark.parametrize('ident', [[7], dict(id=7), None])
def test_a_category_id_of_another_type_is_named(tmp_path, ident):
    content = instances()
    content['categories'][0] = dict(id=ident, name='cat')
    with pytest.raises(ValueError, match='ann.json: category number 0 has id .*, expected a whole'):
        CocoIndex(write_json(tmp_path / 'ann.json', content), MaskLayout())


@pytest.mark.parametrize('ident', [[5], '5', 0])
def test_a_segment_id_of_another_type_is_named(tmp_path, ident):
    write_images(tmp_path)
    content = write_panoptic(tmp_path)
    content['annotations'][0]['segments_info'][0]['id'] = ident
    with pytest.raises(ValueError, match='1, segment .* has id .*, expected a whole'):
        build(tmp_path, 'CocoPanopticDataset', content)


def build(tmp_path, kind='CocoInstanceDataset', content=None, **changes):
    cfg = config(tmp_path, kind, **changes)
    write_json(tmp_path / 'ann.json', content or instances())
    return DATASETS.build(cfg)


def ids(dataset):
    return [dataset.get_data_info(k)['img_id'] for k in range(len(dataset))]


def test_a_dataset_of_tables_holds_no_items(tmp_path):
    dataset = build(tmp_path, 'BoxDetectionDataset')
    assert dataset.data_list == [] and not hasattr(dataset, 'data_bytes')
    assert len(dataset) == 2 and ids(dataset) == [1, 2]
    assert dataset.get_data_info(1)['sample_idx'] == dataset.get_data_info(-1)['sample_idx'] == 1


@pytest.mark.parametrize('indices, expected', [
    (1, [1]), (-1, [2]), ([1], [2]), ([1, 0], [2, 1]), (0, [])])
def test_subsets_mean_what_mmengine_means(tmp_path, indices, expected):
    dataset = build(tmp_path)
    subset = dataset.get_subset(indices)
    assert ids(subset) == expected and len(dataset) == 2
    assert ids(build(tmp_path, indices=indices)) == expected
    dataset.get_subset_(indices)
    assert ids(dataset) == expected


def test_excluded_images_are_not_in_the_rows(tmp_path):
    (tmp_path / 'refs.p').write_bytes(pickle.dumps(references()))
    dataset = build(tmp_path, 'BoxDetectionDataset', exclude_refs=['refs.p'])
    assert ids(dataset) == [2]


def test_images_of_generalised_references_are_excluded_and_counted(tmp_path, monkeypatch):
    messages = []
    monkeypatch.setattr(
        image_selection, 'print_log', lambda message, **kwargs: messages.append(message))
    refs = [dict(ref, ann_id=[ref['ann_id']]) for ref in references()]
    write_json(tmp_path / 'grefs(unc).json', refs)
    dataset = build(tmp_path, 'BoxDetectionDataset', exclude_refs=['grefs(unc).json'])
    assert ids(dataset) == [2]
    assert messages[0].startswith('ann.json: 1 of 2 images left out, which grefs(unc).json use')


@pytest.mark.parametrize('kind', ['CocoInstanceDataset', 'CocoPanopticDataset', 'RefCocoDataset',
                                  'GRefCocoDataset', 'GroundingDataset'])
def test_readers_give_the_same_from_disk(tmp_path, monkeypatch, kind):
    cfg = config(tmp_path, kind)
    small = DATASETS.build(cfg)
    monkeypatch.setattr(coco, 'KEEP_IN_MEMORY', 0)
    large = DATASETS.build(cfg)
    assert list(tmp_path.glob('*.index')) and len(small) == len(large)
    assert small.metainfo == large.metainfo
    for idx in range(len(small)):
        one, other = small.compact_item(idx), large.compact_item(idx)
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert pickle.dumps(value) == pickle.dumps(other[key]), key


class Reading(Dataset):

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, idx):
        return self.dataset.get_data_info(idx)['boxes'].tolist()


def test_spawned_workers_read_the_same(tmp_path):
    cfg = config(tmp_path, 'BoxDetectionDataset')
    dataset = DATASETS.build(cfg)
    dataset._index = open_on_disk(tmp_path / 'ann.json')
    loader = DataLoader(Reading(dataset), batch_size=None, num_workers=1,
                        multiprocessing_context='spawn')
    assert list(loader) == [dataset.get_data_info(k)['boxes'].tolist() for k in range(2)]
