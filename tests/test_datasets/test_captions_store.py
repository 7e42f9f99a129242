# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import pytest

from mvp_mm.captioning.merge import StoreCheck
from mvp_mm.datasets.captions import CaptionRefiner, CaptionStore
from mvp_mm.datasets.captions.keys import caption_key
from mvp_mm.datasets.captions.shards import Manifest, Shard, ShardFiles, list_digest
from mvp_mm.registry import DATASETS
from tests.helpers import load_tool
from tests.test_datasets.small_data import config, write_json

NAMES = ['patch0/a.jpg', 'patch1/a.jpg', 'patch1/b.jpg']


def write_shard(store: Path, lines: list, captioner: str = 'vlm', shard: str = '0/1',
                names: list[str] = NAMES) -> Path:
    """A shard as a captioner leaves it; a line is a record or text."""
    store.mkdir(exist_ok=True)
    (store / 'images.txt').write_text(''.join(f'{name}\n' for name in names))
    files = ShardFiles(store / captioner, Shard.parse(shard))
    Manifest(captioner, 'endpoint', 'm', 'p', {}, len(names), list_digest(names),
             files.shard).save(files.manifest)
    files.captions.write_text(''.join(
        line if isinstance(line, str) else json.dumps(line) + '\n' for line in lines))
    return files.captions


def records(names: list[str] = NAMES, word: str = 'dog') -> list[dict]:
    return [dict(image=name, caption=f'A {word} in {name}.') for name in names]


def test_folder_is_read_in_place_in_the_order_of_the_captioners(tmp_path):
    write_shard(tmp_path, records(), 'b-vlm')
    write_shard(tmp_path, records(word='cat'), 'a-vlm')
    store = CaptionStore(str(tmp_path))
    assert store.captioners == ['a-vlm', 'b-vlm'] and len(store) == 3
    assert store.get('patch1/b.jpg') == ['A cat in patch1/b.jpg.', 'A dog in patch1/b.jpg.']


@pytest.mark.parametrize('query, found', [
    ('patch0/a.jpg', 'patch0/a.jpg'), ('images/v1/patch1/a.jpg', 'patch1/a.jpg'),
    ('b.jpg', 'patch1/b.jpg'), ('patch2/a.jpg', None), ('tch1/a.jpg', None), ('c.jpg', None)])
def test_two_images_are_never_mixed_up(tmp_path, query, found):
    write_shard(tmp_path, records())
    assert CaptionStore(str(tmp_path)).get(query) == ([f'A dog in {found}.'] if found else [])


def test_a_name_that_fits_several_images_is_an_error(tmp_path):
    write_shard(tmp_path, records())
    with pytest.raises(ValueError, match='a.jpg may be patch0/a.jpg or patch1/a.jpg'):
        CaptionStore(str(tmp_path)).get('a.jpg')


def test_names_of_coco_agree():
    names = ('COCO_train2014_000000000009.jpg', 'train2017/000000000009.jpg',
             'coco/train2014/COCO_train2014_000000000009.jpg')
    assert {caption_key(name) for name in names} == {'000000000009.jpg'}
    assert caption_key('train/000000000009.jpg') != caption_key('val/000000000009.jpg')


def test_two_images_of_one_name_are_refused(tmp_path):
    path = write_json(tmp_path / 's.json', dict(captions={
        '000000000009.jpg': ['A dog runs.'], 'train2017/000000000009.jpg': ['A cat sits.']}))
    with pytest.raises(ValueError, match='s.json: two images are named 000000000009.jpg'):
        CaptionStore(path)


def test_torn_last_line_is_tolerated_and_reported(tmp_path):
    write_shard(tmp_path, [*records(NAMES[:2]), '{"image": "patch1/b.jpg", "cap'])
    assert len(CaptionStore(str(tmp_path))) == 2
    check = StoreCheck(tmp_path)
    assert not check.complete and 'ends in a torn line' in check.summary()
    assert check.coverage['vlm'].missing == ['patch1/b.jpg']


@pytest.mark.parametrize('line, message', [
    ('{"image": "x\n', 'is not valid JSON'), ('[1]\n', 'must be an object'),
    ('{"image": "x.jpg"}\n', '"caption" must be a text'),
    ('{"caption": "x"}\n', '"image" must be a file name'),
    ('{"image": "../a.jpg", "caption": "x"}\n', 'must be a file name below the folder'),
    ('{"image": "a\\ud83d.jpg", "caption": "x"}\n', '"image" must be a file name'),
    ('{"image": "x.jpg", "caption": "a \\udc00"}\n', '"caption" must be a text that can be'),
    ('[' * 100_000 + '\n', 'is not valid JSON'), ('\0' * 48 + '\n', 'is not valid JSON')])
def test_any_other_broken_line_is_named(tmp_path, line, message):
    path = write_shard(tmp_path, [records()[0], line, records()[1]])
    with pytest.raises(ValueError, match=f'{path}, line 2.* ?{message}'):
        CaptionStore(str(tmp_path))


def test_an_image_captioned_twice_is_an_error_with_both_places(tmp_path):
    path = write_shard(tmp_path, [*records(), records()[1]])
    with pytest.raises(ValueError, match=f'twice: {path}, line 2 .* and {path}, line 4'):
        CaptionStore(str(tmp_path))
    assert len(StoreCheck(tmp_path).coverage['vlm'].duplicates) == 1


def test_index_is_made_once_and_again_when_a_file_grows(tmp_path):
    store = tmp_path / 'raw'
    path = write_shard(store, records()[:2])
    assert CaptionStore(str(store)).get('patch1/b.jpg') == []
    made, = tmp_path.glob('raw.*.index')
    stamp = (made / 'texts.bin').stat().st_mtime_ns
    CaptionStore(str(store))
    assert (made / 'texts.bin').stat().st_mtime_ns == stamp
    with open(path, 'a') as file:
        file.write(json.dumps(records()[2]) + '\n')
    assert CaptionStore(str(store)).get('patch1/b.jpg') == ['A dog in patch1/b.jpg.']
    assert list(tmp_path.glob('raw.*.index')) == [made]


def test_refiners_have_indices_of_their_own(tmp_path):
    path = write_json(tmp_path / 's.json', dict(captions={'a.jpg': ['It may be night.']}))
    for _ in range(2):
        assert CaptionStore(path).get('a.jpg') == []
        assert CaptionStore(path, CaptionRefiner(hedging=False)).get('a.jpg') == [
            'It may be night.']
    assert len(list(tmp_path.glob('s.json.*.index'))) == 2


def test_another_process_maps_the_index_instead_of_copying_it(tmp_path):
    names = [f'{k}.jpg' for k in range(2000)]
    write_shard(tmp_path, records(names), names=names)
    sent = pickle.dumps(CaptionStore(str(tmp_path)))
    assert len(sent) < 2000
    assert pickle.loads(sent).get('7.jpg') == ['A dog in 7.jpg.']


def test_dataset_trains_from_the_folder_of_the_captioners(tmp_path):
    cfg = config(tmp_path, 'CocoInstanceDataset', tasks=[dict(type='InstanceTask')])
    write_shard(tmp_path / 'raw', records(['a.jpg', 'b.jpg']), names=['a.jpg', 'b.jpg'])
    dataset = DATASETS.build(dict(cfg, caption_store='raw'))
    assert dataset.get_data_info(1)['annotation'].captions == ['A dog in b.jpg.']


def merge(monkeypatch, *args):
    monkeypatch.setattr(sys, 'argv', ['merge_captions.py', *map(str, args)])
    load_tool('data/merge_captions').main()


def test_merging_ends_with_an_error_where_a_shard_is_missing(tmp_path, monkeypatch, capsys):
    write_shard(tmp_path / 's', records(NAMES[1:2]), shard='1/2')
    with pytest.raises(SystemExit) as stopped:
        merge(monkeypatch, tmp_path / 's', '--out', tmp_path / 'm.jsonl')
    out = capsys.readouterr().out
    assert stopped.value.code == 1 and not (tmp_path / 'm.jsonl').exists()
    assert 'shard 0/2 is missing' in out and 'patch0/a.jpg is missing' in out


def test_merged_file_is_a_store(tmp_path, monkeypatch):
    write_shard(tmp_path / 's', [dict(records()[0], caption='A dog. And a', cut=True),
                                 *records()[1:]])
    merge(monkeypatch, tmp_path / 's', '--out', tmp_path / 'm.jsonl', '--report', tmp_path / 'r')
    store = CaptionStore(str(tmp_path / 'm.jsonl'))
    assert store.get('patch1/a.jpg') == ['A dog in patch1/a.jpg.'] and store.captioners == ['vlm']
    first = json.loads((tmp_path / 'm.jsonl').read_text().splitlines()[0])
    assert first['captions'] == [dict(captioner='vlm', caption='A dog. And a', cut=True)]
    assert json.loads((tmp_path / 'r').read_text())['complete'] is True


def test_images_off_the_list_and_conflicting_shards_are_found(tmp_path):
    write_shard(tmp_path, [*records(), dict(image='else.jpg', caption='A tree.')])
    assert StoreCheck(tmp_path).coverage['vlm'].unknown == ['else.jpg']
    manifest = tmp_path / 'vlm/00000-of-00001.json'
    manifest.write_text(manifest.read_text().replace(list_digest(NAMES), 'other'))
    assert 'another list of images' in StoreCheck(tmp_path).coverage['vlm'].conflicts[0]


def test_a_merged_file_without_its_manifest_is_named_as_it_is(tmp_path):
    path = tmp_path / 'captions.jsonl'
    path.write_text(json.dumps(dict(image='a.jpg', captions=[])) + '\n')
    with pytest.raises(FileNotFoundError, match='^[^ ]*manifest.json, which belongs to') as error:
        CaptionStore(str(path))
    assert 'disk' not in str(error.value)


@pytest.mark.parametrize('name, error', [('gone', FileNotFoundError), ('empty', ValueError)])
def test_nothing_to_read_is_named(tmp_path, name, error):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(error, match=name):
        CaptionStore(str(tmp_path / name))


