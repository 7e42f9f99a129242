# Copyright (c) mvp_mm authors. All rights reserved.
"""Two runs do not share a folder, and a run is not continued as another one."""
from __future__ import annotations

import copy
from pathlib import Path

import pytest

from mvp_mm.engine.launch import default_work_dir
from mvp_mm.engine.runner import PerceptionRunner
from mvp_mm.engine.same_run import check_same_run
from mvp_mm.rehearsal.step import forget_runs
from mvp_mm.utils.checkpoint_io import CheckpointError
from tests.helpers import ROOT


@pytest.mark.parametrize('config, expected', [
    ('configs/mvplm/stage2.py', 'stage2'),
    ('/a/clone/configs/mvplm/plus/stage2.py', 'plus/stage2'),
    ('configs/mine/stage2.py', 'mine/stage2'),
    ('my_config.py', 'my_config'),
    ('v1.2.py', 'v1.2'),
    ('data/mine/config.py', 'mine'),
    ('work_dirs/plus/stage2/stage2.py', 'plus/stage2')])
def test_the_default_folder_follows_the_place_of_the_config(config, expected):
    assert default_work_dir(config) == Path('work_dirs', expected)


def test_all_shipped_configs_have_folders_of_their_own():
    leaves = sorted((ROOT / 'configs/mvplm').rglob('*.py'))
    assert len(leaves) > 30 and len({default_work_dir(leaf) for leaf in leaves}) == len(leaves)


@pytest.fixture
def interrupted(toy_config):
    """The config of a run that has ended after four steps, set to continue it."""
    toy_config.train_dataloader.dataset.ann_file = '/disk/train.json'
    runner = PerceptionRunner.from_cfg(copy.deepcopy(toy_config))
    runner.train()
    forget_runs()
    toy_config.update(resume=True, load_from=f'{runner.work_dir}/iter_4.pth')
    toy_config.train_cfg.max_iters = 6
    yield toy_config
    forget_runs()


def told(cfg, work_dir=None):
    lines = []
    check_same_run(cfg, work_dir or cfg.work_dir, lines.append)
    return lines


@pytest.mark.parametrize('key, value, message', [
    ('model.noise', 0.5, r'model\.noise was \(absent\), now 0\.5'),
    ('train_dataloader.dataset.size', 3, r'train_dataloader\.dataset\.size was 5, now 3'),
    ('train_dataloader.dataset.ann_file', '/disk/val.json', r"ann_file was '/disk/train\.json'"),
    ('train_dataloader.sampler.shuffle', False, r'sampler\.shuffle was \(absent\), now False')])
def test_another_run_in_the_same_folder_is_refused(interrupted, key, value, message):
    interrupted.merge_from_dict({key: value})
    with pytest.raises(CheckpointError,
                       match=rf'iter_4\.pth: it belongs to .*{message}.*--work-dir'):
        told(interrupted)


def test_a_refused_run_leaves_the_config_of_the_other_one(interrupted):
    stored = {path: path.read_text() for path in Path(interrupted.work_dir).glob('*.py')}
    interrupted.model.noise = 0.5
    with pytest.raises(CheckpointError, match='belongs to a run with other settings'):
        PerceptionRunner.from_cfg(interrupted)
    assert stored
    assert {path: path.read_text() for path in Path(interrupted.work_dir).glob('*.py')} == stored


def test_the_same_run_is_continued_without_a_word(interrupted):
    interrupted.train_dataloader.num_workers = 1
    assert told(interrupted) == []
    assert PerceptionRunner.from_cfg(interrupted).train() is not None


def test_files_that_have_moved_are_told(interrupted):
    interrupted.train_dataloader.dataset.ann_file = '/other/train.json'
    line, = told(interrupted)
    assert 'with files elsewhere' in line and "now '/other/train.json'" in line


def test_other_settings_in_another_folder_are_told(interrupted, tmp_path):
    interrupted.model.noise = 0.5
    line, = told(interrupted, tmp_path / 'another')
    assert 'with other settings than it was trained with: model.noise was' in line


def test_a_new_run_from_the_weights_is_not_compared(interrupted):
    interrupted.resume = False
    interrupted.model.noise = 0.5
    assert told(interrupted) == []
