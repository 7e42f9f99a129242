# Copyright (c) mvp_mm authors. All rights reserved.
"""Captions, tars and grounded phrases."""
from __future__ import annotations

import json
import tarfile
from pathlib import Path

import mmcv
import numpy as np
import pytest

from mvp_mm.datasets.readers.tar_images import LoadImageFromTar, tar_samples, write_tar_index
from mvp_mm.registry import DATASETS
from tests.test_datasets.miniature import (
    add_member,
    entries,
    moved,
    picture,
    write_cc3m,
    write_goldg,
    write_tars,
)
from tests.test_datasets.small_data import SAMPLE, needs_sample, pipeline, write_json

ENTRIES = entries()


@pytest.fixture
def tars(tmp_path):
    write_tars(tmp_path / 'cc3m_tars')
    return tmp_path / 'cc3m_tars'


def index(folder: Path) -> dict[str, int]:
    return write_tar_index(sorted(folder.glob('*.tar')), folder / 'index.jsonl')


def test_index_counts_samples_and_those_without_an_image(tars):
    assert index(tars) == dict(tars=2, samples=5, without_image=1, without_caption=0)


def test_any_sample_of_a_tar_is_read_by_itself(tars):
    index(tars)
    dataset = DATASETS.build(moved(ENTRIES['cc3m_tars'], tars.parent))
    load = LoadImageFromTar()
    for k in (4, 0, 2):
        item = dataset.get_data_info(k)
        with tarfile.open(item['tar_path']) as tar:
            expected = mmcv.imfrombytes(tar.extractfile(item['file_name']).read())
        assert np.array_equal(load(dict(item))['img'], expected)
    assert dataset.get_data_info(3)['annotation'].captions == ['picture 0 of shard 1']


def test_a_plain_image_is_read_by_the_same_transform(tmp_path):
    picture(tmp_path / 'a.png')
    results = LoadImageFromTar()(dict(img_path=str(tmp_path / 'a.png'), img_id=1))
    assert results['img'].shape == (20, 30, 3)


def test_captions_in_json_serve_where_no_text_lies_beside(tmp_path):
    with tarfile.open(tmp_path / 'a.tar', 'w') as tar:
        add_member(tar, 'x/7.jpg', b'image')
        add_member(tar, 'x/7.json', json.dumps(dict(caption='from json')).encode())
    sample, = tar_samples(tmp_path / 'a.tar')
    assert sample['key'] == 'x/7' and sample['caption'] == 'from json'
    assert sample['image'][0] == 'x/7.jpg' and sample['image'][2] == 5


def test_json_of_another_type_in_a_tar_is_named(tmp_path):
    with tarfile.open(tmp_path / 'a.tar', 'w') as tar:
        add_member(tar, 'x/7.json', b'["caption"]')
    with pytest.raises(ValueError, match='a.tar .*x/7.json must hold an object, holds list'):
        list(tar_samples(tmp_path / 'a.tar'))


@pytest.mark.parametrize('line, message', [
    ('5', 'must be an object, got 5'), ('["tar"]', 'must be an object, got .*tar'),
    ('{"image": ["a.jpg", 5], "caption": "a"}', r"has image \['a.jpg', 5\], expected"),
    ('{"image": ["a.jpg", "5", 3], "caption": "a"}', r"has image \['a.jpg', '5', 3\]")])
def test_a_broken_line_of_a_tar_index_is_named(tars, line, message):
    index(tars)
    path = tars / 'index.jsonl'
    path.write_text(path.read_text() + line + '\n')
    with pytest.raises(ValueError, match=f'index.jsonl: line 8 {message}'):
        DATASETS.build(moved(ENTRIES['cc3m_tars'], tars.parent))


def test_a_tar_that_changed_is_refused(tars):
    index(tars)
    with tarfile.open(tars / '00001.tar', 'a') as tar:
        add_member(tar, 'more.txt', b'x' * 20000)
    with pytest.raises(ValueError, match='00001.tar, which has .* index it again'):
        DATASETS.build(moved(ENTRIES['cc3m_tars'], tars.parent))


def test_a_missing_tar_is_named(tars):
    index(tars)
    (tars / '00001.tar').unlink()
    with pytest.raises(FileNotFoundError, match='00001.tar'):
        DATASETS.build(moved(ENTRIES['cc3m_tars'], tars.parent))


def test_what_is_no_tar_is_named(tars):
    (tars / '00001.tar').write_bytes(b'not a tar' * 100)
    with pytest.raises(ValueError, match='00001.tar is not a readable tar'):
        index(tars)
    assert not (tars / 'index.jsonl').exists()


def test_broken_image_bytes_are_named(tars):
    results = dict(img_path='00000.tar/x.png', tar_path=str(tars / '00000.tar'), tar_offset=0,
                   tar_size=100, img_id='x')
    with pytest.raises(ValueError, match=r'00000.tar/x.png \(image x\) is not a readable image'):
        LoadImageFromTar()(results)


def test_a_bytes_range_past_the_end_is_named(tars):
    results = dict(img_path='00000.tar/x.png', tar_path=str(tars / '00000.tar'), tar_offset=0,
                   tar_size=10**9, img_id='x')
    with pytest.raises(ValueError, match='00000.tar ends inside this image'):
        LoadImageFromTar()(results)


def test_chat_answers_are_captions(tmp_path):
    write_cc3m(tmp_path / 'cc3m')
    item = DATASETS.build(moved(ENTRIES['cc3m'], tmp_path)).get_data_info(0)
    assert item['annotation'].captions == ['a dog runs along the beach']


@needs_sample
def test_real_chat_pairs(tmp_path):
    dataset = DATASETS.build(dict(
        ENTRIES['cc3m'], data_root=str(SAMPLE / 'cc3m_style'), data_prefix=dict(img=''),
        pipeline=pipeline(tmp_path, training=True, size=224)))
    assert len(dataset) == 32
    assert dataset[5]['data_samples'][0].instruction.response


@needs_sample
def test_real_coco_captions():
    dataset = DATASETS.build(dict(ENTRIES['coco_caption_train'], exclude_refs=[],
                                  data_root=str(SAMPLE / 'coco')))
    captions = [dataset.get_data_info(k)['annotation'].captions for k in range(len(dataset))]
    assert len(captions) == 127 and sum(map(len, captions)) == 635


@needs_sample
def test_real_coco_images_of_references_leave_training():
    dataset = DATASETS.build(dict(ENTRIES['coco_caption_train'], data_root=str(SAMPLE / 'coco')))
    kept = {dataset.get_data_info(k)['img_id'] for k in range(len(dataset))}
    assert not kept & {154, 100667, 322517} and len(kept) < 127


@pytest.mark.parametrize('caption, message', [
    (dict(id=9, image_id=77, caption='A cat.'), 'caption 9 names unknown image 77'),
    (dict(id=9, image_id=1, caption=' '), "caption 9 has caption ' ', expected a text")])
def test_broken_coco_captions_are_named(tmp_path, caption, message):
    picture(tmp_path / 'img/a.jpg')
    write_json(tmp_path / 'captions.json', dict(
        images=[dict(id=1, file_name='a.jpg', height=20, width=30)], annotations=[caption]))
    with pytest.raises(ValueError, match=message):
        DATASETS.build(dict(type='CocoCaptionDataset', data_root=str(tmp_path),
                            ann_file='captions.json', data_prefix=dict(img='img')))


@pytest.fixture
def mixed(tmp_path):
    """A config of final_mixed_train.json with an image of COCO and one of Visual Genome."""
    write_goldg(tmp_path / 'goldg')
    cfg = moved(ENTRIES['goldg_mixed_train'], tmp_path)
    path = tmp_path / 'goldg/annotations/final_mixed_train_no_coco.json'
    content = json.loads(path.read_text())
    content['images'].append(dict(content['images'][0], id=1, data_source='coco',
                                  file_name='COCO_train2014_000000000001.jpg'))
    write_json(path, content)
    picture(tmp_path / 'goldg/coco/train2014/COCO_train2014_000000000001.jpg')
    return cfg


def test_coco_images_of_the_mixed_file_lie_elsewhere(mixed):
    dataset = DATASETS.build(dict(
        mixed, data_prefix=dict(img='gqa/images', coco='coco/train2014')))
    assert [Path(dataset.get_data_info(k)['img_path']).parent.name for k in range(2)] == [
        'images', 'train2014']


def test_coco_images_of_the_mixed_file_can_stay_out(mixed):
    dataset = DATASETS.build(mixed)
    assert len(dataset) == 1 and '2354786' in dataset.get_data_info(0)['img_path']


def test_boxes_without_a_phrase_are_left_out(mixed):
    annotation = DATASETS.build(mixed).get_data_info(0)['annotation']
    assert annotation.caption_spans == [('two people', [0]), ('a dog', [1])]


def test_odvg_regions_share_the_targets_of_a_phrase(tmp_path):
    write_goldg(tmp_path / 'goldg')
    dataset = DATASETS.build(moved(ENTRIES['odvg_grounding'], tmp_path))
    annotation = dataset.get_data_info(0)['annotation']
    assert annotation.caption_spans == [('two people', [0, 1]), ('a dog', [2])]
    assert annotation.captions == ['Two people walk a dog .']
    assert dataset.metainfo['classes'] == ('two people', 'a dog')
