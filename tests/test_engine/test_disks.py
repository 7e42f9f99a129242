# Copyright (c) mvp_mm authors. All rights reserved.
"""Real disks that are full or read-only: one line with the path, and nothing half-written.

Small file systems in memory are mounted for this, which needs root; without it they are skipped.
"""
from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from mvp_mm.datasets.indexing.coco import CocoIndex
from mvp_mm.engine.checkpoint_writer import CheckpointWriter
from mvp_mm.engine.latest_checkpoint import find_resumable
from mvp_mm.engine.runner import PerceptionRunner
from mvp_mm.rehearsal.step import forget_runs
from mvp_mm.utils.atomic import WriteError, write_text
from mvp_mm.utils.checkpoint_io import read_checkpoint
from tests.test_datasets.small_data import instances, write_json


def _mount(*arguments: str) -> bool:
    return subprocess.run(['mount', *arguments], capture_output=True).returncode == 0


@pytest.fixture
def disk(tmp_path):
    """A file system of 1 MiB in memory."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    if os.getuid() or not _mount('-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', str(folder)):
        pytest.skip('file systems cannot be mounted here')
    yield folder
    subprocess.run(['umount', '-l', str(folder)], check=True)


def fill(disk: Path, spare: int) -> Path:
    """Fill a disk up to some bytes."""
    filling = disk / 'filling'
    room = os.statvfs(disk)
    filling.write_bytes(bytes(max(room.f_bavail * room.f_frsize - spare, 0)))
    return filling


@pytest.fixture
def config(toy_config, disk):
    # A checkpoint takes about 330 kB.
    toy_config.model.width = 20000
    toy_config.optim_wrapper.optimizer.momentum = 0.9
    toy_config.default_hooks.checkpoint = dict(
        type='VerifiedCheckpointHook', interval=1, by_epoch=False)
    toy_config.work_dir = str(disk / 'run')
    return toy_config


@pytest.mark.parametrize('asynchronous', [False, True])
def test_a_run_whose_disk_fills_keeps_its_checkpoints_and_goes_on_with_room(
        config, disk, asynchronous):
    config.default_hooks.checkpoint.asynchronous = asynchronous
    runner = PerceptionRunner.from_cfg(config)
    with pytest.raises(WriteError, match=r'cannot write .*/iter_\d\.pth: No space left on device'):
        runner.train()
    folder = Path(config.work_dir)
    saved = sorted(folder.glob('iter_*.pth'))
    assert saved and not list(folder.glob('.*.part'))
    for path in saved:
        read_checkpoint(path)
    assert find_resumable(folder) == str(saved[-1])
    assert _mount('-o', 'remount,size=8m', str(disk))
    config.resume, config.load_from = True, str(saved[-1])
    config.experiment_name += 'again'
    again = PerceptionRunner.from_cfg(config)
    again.train()
    assert again.iter == 4
    forget_runs()


def test_a_read_only_disk_is_one_line_with_the_path(disk):
    (disk / 'old.pth').write_bytes(b'old')
    assert _mount('-o', 'remount,ro', str(disk))
    for write in (lambda: write_text(disk / 'metrics.json', '{}'),
                  lambda: CheckpointWriter().write(b'PK', disk / 'iter_1.pth')):
        with pytest.raises(WriteError, match=r'cannot write .*/disk/\S+: Read-only file system$'):
            write()
    assert [path.name for path in disk.iterdir()] == ['old.pth']


def test_metrics_are_whole_or_not_there_on_a_full_disk(config, make_runner, disk):
    runner = make_runner(config)
    runner.load_or_resume = lambda: None
    filling = fill(disk, 0)
    with pytest.raises(WriteError, match=r'cannot write .*/test_metrics\.json: No space left'):
        runner.test()
    assert not list(Path(runner.log_dir).glob('*metrics.json*'))
    filling.unlink()
    metrics = runner.test()
    written = json.loads((Path(runner.log_dir) / 'test_metrics.json').read_text())
    assert written == pytest.approx(metrics)


def test_an_index_that_does_not_fit_names_its_folder_and_leaves_nothing(disk, tmp_path):
    content = instances()
    content['annotations'] = [dict(one, id=number) for number in range(3000)
                              for one in content['annotations'][:1]]
    file = write_json(tmp_path / 'ann.json', content)
    filling = fill(disk, 8192)
    message = f'cannot write {re.escape(str(disk))}/ann.json.*is the disk full'
    with pytest.raises(WriteError, match=message):
        CocoIndex(file, index_dir=str(disk), keep_in_memory=0)
    assert not [path for path in disk.iterdir() if path.is_dir()]
    filling.unlink()
    index = CocoIndex(file, index_dir=str(disk), keep_in_memory=0)
    assert index.facts['objects'] == 3000
