# Copyright (c) mvp_mm authors. All rights reserved.
"""No file of a folder and no line of a list is lost or changed silently."""
from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mvp_mm.datasets.checks import check_dataset
from mvp_mm.datasets.readers import semantic_map
from mvp_mm.registry import DATASETS
from mvp_mm.utils.listings import SuffixListing, read_names
from tests.test_datasets.small_data import HEIGHT, WIDTH, logged


def write(root, files):
    for folder in ('img', 'seg'):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in files:
        path = root / 'img' / name
        path.parent.mkdir(exist_ok=True)
        Image.new('RGB', (WIDTH, HEIGHT)).save(path, 'JPEG')
        path = root / 'seg' / f'{name.rpartition(".")[0]}.png'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.ones((HEIGHT, WIDTH), np.uint8)).save(path)


def config(root, listed=None, **changes):
    if listed is not None:
        (root / 'val.txt').write_bytes(listed.encode())
    return {**dict(
        type='SemanticMapDataset', data_root=str(root), ann_file='val.txt' if listed else '',
        data_prefix=dict(img='img', seg='seg'), vocabulary='pascal_voc_20',
        values=list(range(1, 21)), ignore=[0, 255], test_mode=True,
        tasks=[dict(type='SemanticTask', response='none')]), **changes}


def files_of(root, listed=None, **changes):
    dataset = DATASETS.build(config(root, listed, **changes))
    items = [dataset.get_data_info(k) for k in range(len(dataset))]
    return [item['file_name'] for item in items]


def test_suffixes_of_any_case_are_read_and_other_files_counted(tmp_path, monkeypatch):
    messages = logged(monkeypatch, semantic_map)
    write(tmp_path, ['a.jpg', 'b.JPG', 'sub/d.Jpg', 'c.jpeg', '._a.jpg'])
    assert files_of(tmp_path) == ['a.jpg', 'b.JPG', 'sub/d.Jpg']
    message, = messages
    assert message.endswith('img: files passed over: 1 hidden, 1 without the suffix .jpg')
    report = check_dataset(config(tmp_path))
    assert report.notes == {'files in the folder of images passed over': 2}


def test_a_folder_of_images_alone_needs_no_word(tmp_path, monkeypatch):
    messages = logged(monkeypatch, semantic_map)
    write(tmp_path, ['a.jpg', 'b.jpg'])
    assert files_of(tmp_path) == ['a.jpg', 'b.jpg'] and not messages


@pytest.mark.parametrize('listed', [
    'room 1\nroom 2\n', '\ufeffroom 1\r\nroom 2\r\n', 'room 1.jpg\n\nroom 2.jpg', 'room 2\nroom 1'])
def test_a_line_of_a_list_is_a_name(tmp_path, listed):
    write(tmp_path, ['room 1.jpg', 'room 2.jpg'])
    assert sorted(files_of(tmp_path, listed)) == ['room 1.jpg', 'room 2.jpg']


def test_a_listed_name_finds_a_suffix_of_another_case(tmp_path):
    write(tmp_path, ['a.JPG'])
    (tmp_path / 'seg/a.png').rename(tmp_path / 'seg/a.PNG')
    assert files_of(tmp_path, 'a\n') == ['a.JPG']


def test_a_listed_image_that_is_not_there_keeps_its_name(tmp_path):
    assert SuffixListing(tmp_path, '.jpg').find('deep/er/a') == 'deep/er/a.jpg'


def test_two_files_of_one_name_are_refused(tmp_path):
    write(tmp_path, ['a.jpg', 'a.JPG'])
    with pytest.raises(ValueError, match='img: a.JPG and a.jpg have the same name'):
        DATASETS.build(config(tmp_path))


def test_an_image_listed_twice_is_refused_in_evaluation(tmp_path):
    write(tmp_path, ['a.jpg'])
    with pytest.raises(ValueError, match='val.txt: image a is listed more than once'):
        DATASETS.build(config(tmp_path, 'a\na\n'))
    assert files_of(tmp_path, 'a\na\n', test_mode=False) == ['a.jpg', 'a.jpg']


def test_a_list_in_another_encoding_is_named(tmp_path):
    (tmp_path / 'val.txt').write_bytes(b'caf\xe9\n')
    with pytest.raises(ValueError, match='val.txt is not UTF-8'):
        read_names(tmp_path / 'val.txt')
