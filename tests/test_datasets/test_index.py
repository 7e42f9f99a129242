# Copyright (c) mvp_mm authors. All rights reserved.
import copy
import json
import multiprocessing
import os
import pickle

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from mvp_mm.datasets import base
from mvp_mm.datasets.indexing import coco, json_stream, lines, store
from mvp_mm.datasets.indexing.coco import CocoIndex
from mvp_mm.datasets.indexing.json_stream import JsonStream
from mvp_mm.datasets.indexing.layout import MaskLayout
from mvp_mm.registry import DATASETS
from tests.test_datasets.small_data import config, instances, references, write_json


def random_content(images=40, boxes=200, seed=0):
    rng = np.random.default_rng(seed)
    ids = rng.permutation(1000)[:images].tolist()
    return dict(
        info=dict(note='[{"images": 1}'),
        annotations=[
            dict(id=k, image_id=ids[rng.integers(images)], category_id=int(rng.choice([3, 7])),
                 iscrowd=int(rng.random() < 0.1), bbox=rng.uniform(1, 20, 4).round(3).tolist(),
                 segmentation=rng.uniform(1, 20, (1, 6)).tolist(), note='caf\u00e9 \u732b')
            for k in range(boxes)],
        categories=[dict(id=7, name='cat'), dict(id=3, name='dog')],
        images=[dict(id=i, file_name=f'b\u00e4r {i}.jpg', height=50, width=60) for i in ids])


def write(path, content, **options):
    path.write_text(json.dumps(content, **options), encoding='utf-8')
    return str(path)


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
            x, y, w, h = np.float32(annotation['bbox'])
            assert one['box'].tolist() == [x, y, x + w, y + h]
            assert index.categories[one['label']]['id'] == annotation['category_id']
            assert one['crowd'] == annotation['iscrowd']
        assert index.records(objects) == wanted


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_an_open_index_can_be_copied(tmp_path, copied):
    path = write(tmp_path / 'ann.json', random_content())
    index = CocoIndex(path, keep_in_memory=0)
    index.image(0)
    assert copied(index).image(3)[0] == index.image(3)[0]


def open_on_disk(path, index_dir=None):
    return CocoIndex(str(path), keep_in_memory=0, index_dir=index_dir)


def count_builds(monkeypatch):
    built = []
    make = store._make
    monkeypatch.setattr(store, '_make', lambda *args: built.append(1) or make(*args))
    return built


def test_the_second_open_reads_nothing_but_the_index(tmp_path, monkeypatch):
    path = write(tmp_path / 'ann.json', random_content())
    built = count_builds(monkeypatch)
    open_on_disk(path)
    open_on_disk(path)
    assert len(built) == 1


def test_another_source_is_indexed_anew(tmp_path):
    path = tmp_path / 'ann.json'
    write(path, random_content(images=5))
    assert len(open_on_disk(path)) == 5
    write(path, random_content(images=6))
    assert len(open_on_disk(path)) == 6


def test_a_source_of_the_same_size_but_newer_is_indexed_anew(tmp_path, monkeypatch):
    path = write(tmp_path / 'ann.json', random_content())
    open_on_disk(path)
    stat = os.stat(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    built = count_builds(monkeypatch)
    open_on_disk(path)
    assert len(built) == 1


@pytest.mark.parametrize('damage', ['short', 'no table', 'no meta', 'torn meta', 'other format'])
def test_a_damaged_index_is_made_anew(tmp_path, monkeypatch, damage):
    path = write(tmp_path / 'ann.json', random_content())
    wanted = open_on_disk(path).image(2)[1].tobytes()
    folder = store.index_folder(path, 'boxes')
    table, meta = folder / 'objects.bin', folder / 'meta.json'
    if damage == 'short':
        table.write_bytes(table.read_bytes()[:-1])
    elif damage == 'no table':
        table.unlink()
    elif damage == 'no meta':
        meta.unlink()
    elif damage == 'torn meta':
        meta.write_text(meta.read_text()[:20])
    else:
        monkeypatch.setattr(store, 'FORMAT', store.FORMAT + 1)
    built = count_builds(monkeypatch)
    assert open_on_disk(path).image(2)[1].tobytes() == wanted
    assert len(built) == 1


def test_a_failed_build_leaves_nothing_behind(tmp_path):
    content = random_content()
    content['annotations'][5]['category_id'] = 99
    path = write(tmp_path / 'ann.json', content)
    with pytest.raises(ValueError, match='annotation 5 names unknown category 99'):
        open_on_disk(path)
    assert {p.name for p in tmp_path.iterdir()} <= {'ann.json', 'ann.json.boxes.index.lock'}


def _open_and_report(path, queue):
    built = []
    make = store._make
    store._make = lambda *args: built.append(1) or make(*args)
    queue.put((len(built), len(open_on_disk(path)), len(built)))


def test_of_many_processes_one_builds(tmp_path):
    path = write(tmp_path / 'ann.json', random_content(boxes=2000))
    context = multiprocessing.get_context('fork')
    queue = context.Queue()
    processes = [context.Process(target=_open_and_report, args=(path, queue)) for _ in range(4)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert [length for _, length, _ in results] == [40] * 4
    assert sum(built for _, _, built in results) == 1


def test_where_an_index_lies(tmp_path, monkeypatch):
    path = tmp_path / 'data' / 'ann.json'
    path.parent.mkdir()
    path.write_text('{}')
    monkeypatch.delenv(store.INDEX_DIR_VARIABLE, raising=False)
    assert store.index_folder(path, 'boxes').parent == path.parent.resolve()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(store.os, 'access', lambda *args: False)
    assert store.index_folder(path, 'boxes').parent == tmp_path / 'cache' / 'mvp_mm'
    monkeypatch.setenv(store.INDEX_DIR_VARIABLE, str(tmp_path / 'chosen'))
    assert store.index_folder(path, 'boxes').parent == tmp_path / 'chosen'
    given = store.index_folder(path, 'boxes', tmp_path / 'given')
    assert given.parent == tmp_path / 'given'
    other = store.index_folder(tmp_path / 'ann.json', 'boxes', tmp_path / 'given')
    assert other != given


def stream(path):
    return [(key, record) for key, record, _, _ in JsonStream(path).records(['images'])]


@pytest.mark.parametrize('text, message', [
    ('', 'the file ends early'), ('[]', 'top level'), ('{"images": [{}', 'the file ends early'),
    ('{"images": [{"a": 1]}', 'is not valid JSON: byte 12'), ('{"images": [1 2]}', 'expected , or'),
    ('{"images": []} x', 'data after the end'), ('{"other": []}', 'no list of images'),
    ('{"images": {}}', 'no list of images'), ('{1: []}', 'expected a key'),
    ('{"images": [{"a": "\udcff"}]}', 'is not valid JSON'),
])
def test_broken_json_is_named(tmp_path, text, message):
    path = tmp_path / 'ann.json'
    path.write_text(text, encoding='utf-8', errors='surrogateescape')
    with pytest.raises(ValueError, match=message) as error:
        stream(path)
    assert 'ann.json' in str(error.value)


@pytest.mark.parametrize('window', [1, 2, 3, 7, 1000])
def test_a_window_of_any_size_gives_the_same_records(tmp_path, monkeypatch, window):
    monkeypatch.setattr(json_stream, '_WINDOW', window)
    content = dict(a=-12.5e3, images=[dict(x=[1, dict(y='}],"')]), 123456, 'z'], b='', c=None)
    path = write(tmp_path / 'ann.json', content)
    assert [record for _, record in stream(path)] == content['images']


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
    (dict(height=0), 'image 1 has height 0'), (dict(id='x'), "image id 'x' must be"),
])
def test_broken_images_are_named(tmp_path, change, message):
    content = instances()
    content['images'][0].update(change)
    with pytest.raises(ValueError, match=message):
        CocoIndex(write_json(tmp_path / 'ann.json', content))


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
    monkeypatch.setattr(base, 'print_log', lambda message, **kwargs: messages.append(message))
    refs = [dict(ref, ann_id=[ref['ann_id']]) for ref in references()]
    write_json(tmp_path / 'grefs(unc).json', refs)
    dataset = build(tmp_path, 'BoxDetectionDataset', exclude_refs=['grefs(unc).json'])
    assert ids(dataset) == [2]
    assert messages[0].startswith('ann.json: 1 of 2 images left out, which grefs(unc).json use')


def test_images_without_ids_cannot_be_excluded(tmp_path):
    (tmp_path / 'refs.p').write_bytes(pickle.dumps(references()))
    with pytest.raises(ValueError, match='ann.jsonl: its images have no ids'):
        build_odvg(tmp_path, exclude_refs=['refs.p'])


ODVG_LINES = [dict(filename=f'b\u00e4r {k}.jpg', height=20, width=30, grounding=dict(
    caption='a cat', regions=[dict(phrase='a cat', bbox=[[k, 1, k + 3, 5], [1, 1, 1, 5]])]))
    for k in range(5)]


def build_odvg(tmp_path, lines=ODVG_LINES, **changes):
    cfg = config(tmp_path, 'BoxDetectionDataset', **changes)
    text = ''.join(json.dumps(line, ensure_ascii=False) + '\n\n' for line in lines)
    if not (tmp_path / 'ann.jsonl').exists():
        (tmp_path / 'ann.jsonl').write_text(text, encoding='utf-8')
    return DATASETS.build(dict(cfg, type='OdvgDataset', ann_file='ann.jsonl'))


@pytest.mark.parametrize('on_disk', [False, True])
def test_lines_are_read_where_they_stand(tmp_path, monkeypatch, on_disk):
    monkeypatch.setattr(lines, 'KEEP_IN_MEMORY', 0 if on_disk else 1 << 20)
    built = count_builds(monkeypatch)
    dataset = build_odvg(tmp_path)
    for k, line in enumerate(ODVG_LINES):
        item = dataset.get_data_info(k)
        assert item['file_name'] == line['filename'] == dataset.file_name(k)
        assert item['boxes'].tolist() == [[k, 1, k + 3, 5]]
    again = pickle.loads(pickle.dumps(build_odvg(tmp_path)._index))
    assert again.content(3) == (7, ODVG_LINES[3])
    assert list(again.file_names()) == [line['filename'] for line in ODVG_LINES]
    assert len(built) == on_disk


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
