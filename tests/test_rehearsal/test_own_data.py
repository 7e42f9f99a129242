# Copyright (c) mvp_mm authors. All rights reserved.
"""A rehearsal on a user's own data reads little of it and writes nothing beside it."""
from __future__ import annotations

import pytest

from mvp_mm.rehearsal.own_data import on_own_data
from mvp_mm.rehearsal.place import PHI, make_place
from mvp_mm.rehearsal.plan import phases
from mvp_mm.rehearsal.tokenizer import copy_tokenizer


def commands(own):
    return [' '.join(step.words) for both in on_own_data(phases(), own)
            for lane in both for step in lane]


def test_datasets_that_the_user_has_are_linked_and_the_others_fabricated(tmp_path):
    (tmp_path / 'mine/coco').mkdir(parents=True)
    (tmp_path / 'mine/own').mkdir()
    assert make_place(tmp_path / 'place', tmp_path / 'mine') == ['coco']
    data = tmp_path / 'place/data'
    assert (data / 'coco').resolve() == tmp_path / 'mine/coco'
    assert not list((tmp_path / 'mine/coco').iterdir())
    assert (data / 'refer/captions/coco_train2014.jsonl').is_file()
    assert (tmp_path / 'place' / PHI / 'config.json').is_file()


def test_tests_read_two_images_of_the_users_datasets_and_lvis_is_fabricated():
    all_benchmarks = next(line for line in commands(['coco']) if 'eval/all.py CHECKPOINT' in line)
    assert 'test_dataloader.coco_panoptic.dataset.indices=2' in all_benchmarks
    assert 'test_dataloader.refcoco_val.dataset.indices' not in all_benchmarks
    assert 'datasets.lvis_val.data_root=samples/coco' in all_benchmarks


def test_nothing_that_reads_or_writes_whole_datasets_is_typed():
    typed = '\n'.join(commands(['VOCdevkit', 'cc3m_tars']))
    assert 'prepare_pascal_context' not in typed and 'index_tars' not in typed
    assert 'check_dataset' not in typed and '--mode test --number 2' in typed


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f'{tmp_path} holds no tokenizer'):
        copy_tokenizer(tmp_path, tmp_path / 'new')
