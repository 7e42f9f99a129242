# Copyright (c) mvp_mm authors. All rights reserved.
"""Files of JSON lines, read where the lines stand."""
from __future__ import annotations

import json
import pickle

import pytest

from mvp_mm.datasets.indexing import lines
from mvp_mm.registry import DATASETS
from tests.test_datasets.index_content import count_builds
from tests.test_datasets.small_data import config, references, write_json

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


def test_images_without_ids_cannot_be_excluded(tmp_path):
    (tmp_path / 'refs.p').write_bytes(pickle.dumps(references()))
    with pytest.raises(ValueError, match='ann.jsonl: its images have no ids'):
        build_odvg(tmp_path, exclude_refs=['refs.p'])


def test_each_vocabulary_has_an_index_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, 'KEEP_IN_MEMORY', 0)
    several = [dict(line, grounding=dict(caption='a cat', regions=[
        dict(phrase=phrase, bbox=[1, 1, 9, 9]) for phrase in ('a cat', 'cat')]))
        for line in ODVG_LINES]
    built = count_builds(monkeypatch)
    sizes = [len(build_odvg(tmp_path, several, vocabulary_size=size).metainfo['classes'])
             for size in (1, 2, 1, 2)]
    assert sizes == [1, 2, 1, 2] and len(built) == 2


def test_each_label_map_has_an_index_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, 'KEEP_IN_MEMORY', 0)
    found = [dict(filename='a.jpg', height=20, width=30, detection=dict(
        instances=[dict(bbox=[1, 1, 9, 9], label=0)]))]
    write_json(tmp_path / 'one.json', {'0': 'cat'})
    write_json(tmp_path / 'two.json', {'3': 'dog', '0': 'cat'})
    built = count_builds(monkeypatch)
    # How many phrases a grounding file would have changes nothing.
    labels = [build_odvg(tmp_path, found, label_map_file=f'{name}.json', vocabulary_size=size)
              .get_data_info(0)['annotation'].labels.tolist()
              for name, size in (('one', 5), ('two', 5), ('one', 6), ('two', 6))]
    assert labels == [[0], [1], [0], [1]] and len(built) == 2


@pytest.mark.parametrize('records', [5, {'bbox': [1, 1, 9, 9]}, 'cat'])
def test_regions_that_are_no_list_are_named(tmp_path, records):
    broken = [dict(ODVG_LINES[0], grounding=dict(caption='a cat', regions=records))]
    with pytest.raises(ValueError, match=r'line 1 \(.* 0.jpg\) has regions .*, expected a list'):
        build_odvg(tmp_path, broken)
