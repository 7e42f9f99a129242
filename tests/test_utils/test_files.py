# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import pickle

import pytest
from mmengine.config import Config

from mvp_mm.engine.config_files import missing_files
from mvp_mm.registry import DATASETS
from mvp_mm.utils.files import check_annotation_file, join_root
from tests.test_datasets.small_data import config, references


def test_a_path_is_joined_by_names():
    assert join_root('data/coco', '../refer/a.p') == 'data/refer/a.p'
    assert join_root('data/coco', '/disk/a.p') == '/disk/a.p'


def test_files_beside_a_linked_data_root_are_found(tmp_path):
    cfg = config(tmp_path / 'disk/coco', 'CocoInstanceDataset')
    (tmp_path / 'data/refer').mkdir(parents=True)
    (tmp_path / 'data/coco').symlink_to(tmp_path / 'disk/coco')
    (tmp_path / 'data/refer/refs(unc).p').write_bytes(pickle.dumps(references()))
    cfg.update(data_root=str(tmp_path / 'data/coco'), exclude_refs=['../refer/refs(unc).p'],
               tasks=[dict(type='InstanceTask', response='none')])
    whole = Config(dict(train_dataloader=dict(dataset=cfg)))
    assert not [problem for problem in missing_files(whole, ('train', )) if 'refs' in problem]
    assert [item['img_id'] for item in DATASETS.build(cfg)] == [2]


def test_a_folder_in_place_of_an_annotation_file_is_told_as_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'is a folder; .* mvp-mm data .* --out DIR'):
        check_annotation_file(tmp_path)
    with pytest.raises(FileNotFoundError, match='no.json does not exist'):
        check_annotation_file(tmp_path / 'no.json')
