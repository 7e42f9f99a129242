# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import sys
from pathlib import Path

import cv2
import pytest
from mmengine.registry import DefaultScope

from tests.helpers import ROOT, load_tool
from tests.test_datasets.small_data import config, pipeline

TASKS = [dict(type='PanopticTask', response='none')]
CONFIG = """
_base_ = '{runtime}'
_loader = dict(batch_size=1, collate_fn=dict(type='perception_collate'))
train_dataloader = dict(
    **_loader, sampler=dict(type='InfiniteSampler'), dataset=dict(
        type='ConcatDataset', ignore_keys=['classes', 'thing_flags'], datasets=[{one}, {two}]))
"""


@pytest.fixture
def browse(tmp_path, monkeypatch):
    """Browse a panoptic and a detection data set with one answerable image each."""
    one = config(tmp_path / 'one', 'CocoPanopticDataset', tasks=TASKS,
                 pipeline=pipeline(tmp_path, training=True))
    two = config(tmp_path / 'two', 'BoxDetectionDataset',
                 tasks=[dict(type='DetectionTask', response='none')],
                 pipeline=pipeline(tmp_path, training=True))
    runtime = ROOT / 'configs' / '_base_' / 'default_runtime.py'
    (tmp_path / 'cfg.py').write_text(CONFIG.format(runtime=runtime, one=one, two=two))
    monkeypatch.chdir(tmp_path)

    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['browse_dataset', 'cfg.py', '--out', 'out', *args])
        load_tool('analysis_tools/browse_dataset').main()

    yield run
    DefaultScope._instance_dict.clear()


def test_every_data_set_gets_pictures_and_a_sheet(browse):
    browse()
    for folder, task in (('0_CocoPanopticDataset', 'panoptic'),
                         ('1_BoxDetectionDataset', 'detection')):
        names = {path.name for path in Path('out', folder).iterdir()}
        assert names == {'sheet.png', f'a_0_{task}.png', f'b_0_{task}.png'}


def test_the_same_seed_draws_the_same_pictures(browse):
    browse('--seed', '3')
    first = cv2.imread('out/0_CocoPanopticDataset/a_0_panoptic.png')
    browse('--seed', '3')
    assert (cv2.imread('out/0_CocoPanopticDataset/a_0_panoptic.png') == first).all()


def test_a_missing_folder_is_named_before_anything_is_drawn(browse, capsys):
    with pytest.raises(SystemExit, match='2'):
        browse('--cfg-options', 'train_dataloader.dataset.datasets.1.data_root=nowhere')
    assert 'nowhere' in capsys.readouterr().err
    assert not Path('out').exists()


def test_a_config_can_be_browsed_before_its_checkpoint_exists(browse, tmp_path):
    with open(tmp_path / 'cfg.py', 'a') as config_file:
        config_file.write("load_from = 'work_dirs/stage1/iter_4650.pth'\n")
    browse('--number', '1')
    assert list((tmp_path / 'out').rglob('sheet.png'))
