# Copyright (c) mvp_mm authors. All rights reserved.
"""Checkpoints are whole or not there; resuming takes the newest sound one."""
from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from mvp_mm.engine import VerifiedCheckpointHook
from mvp_mm.engine.checkpoint_writer import CheckpointWriter
from mvp_mm.engine.config_error import ConfigError
from mvp_mm.engine.latest_checkpoint import find_resumable
from mvp_mm.utils import atomic
from mvp_mm.utils.atomic import WriteError
from mvp_mm.utils.checkpoint_io import CheckpointError, read_checkpoint


@pytest.fixture
def saving_config(toy_config):
    """The toy's config with a verified save at every iteration."""
    toy_config.default_hooks.checkpoint = dict(
        type='VerifiedCheckpointHook', interval=1, by_epoch=False)
    return toy_config


def names(folder):
    return sorted(p.name for p in Path(folder).iterdir() if p.is_file() and p.suffix == '.pth')


def test_saves_are_named_by_a_name_and_a_run_folder_can_be_moved(
        saving_config, make_runner, tmp_path):
    make_runner(saving_config).train()
    folder = Path(saving_config.work_dir)
    assert (folder / 'last_checkpoint').read_text() == 'iter_4.pth'
    moved = tmp_path / 'moved'
    shutil.move(folder, moved)
    assert find_resumable(moved) == str(moved / 'iter_4.pth')


@pytest.mark.parametrize('keep', [1, 2])
def test_an_old_checkpoint_goes_when_the_new_one_is_safe(
        saving_config, make_runner, monkeypatch, keep):
    saving_config.default_hooks.checkpoint.max_keep_ckpts = keep
    seen = []
    replace = os.replace

    def watched(source, target):
        if str(target).endswith('.pth'):
            seen.append(names(saving_config.work_dir))
        replace(source, target)

    monkeypatch.setattr(os, 'replace', watched)
    make_runner(saving_config).train()
    # Just before iter_3 takes its name, those before it are all still there.
    kept_before = [f'iter_{i}.pth' for i in range(3 - keep, 3)]
    assert [n for n in seen[2] if not n.startswith('.')] == kept_before
    assert names(saving_config.work_dir) == [f'iter_{i}.pth' for i in range(5 - keep, 5)]


def test_a_resumed_run_keeps_as_many_as_it_should(saving_config, make_runner):
    saving_config.default_hooks.checkpoint.max_keep_ckpts = 2
    saving_config.train_cfg.max_iters = 3
    make_runner(saving_config).train()
    saving_config.train_cfg.max_iters = 5
    saving_config.experiment_name += 'again'
    saving_config.resume = True
    saving_config.load_from = find_resumable(saving_config.work_dir)
    make_runner(saving_config).train()
    assert names(saving_config.work_dir) == ['iter_4.pth', 'iter_5.pth']


def test_a_best_checkpoint_is_verified_too(saving_config, make_runner):
    saving_config.default_hooks.checkpoint.update(save_best='panoptic/toy/total', rule='greater')
    saving_config.train_cfg.val_interval = 2
    saving_config.val_dataloader = saving_config.test_dataloader
    saving_config.val_evaluator = saving_config.test_evaluator
    saving_config.val_cfg = dict(type='MultiValLoop')
    make_runner(saving_config).train()
    best, = (n for n in names(saving_config.work_dir) if n.startswith('best'))
    assert read_checkpoint(Path(saving_config.work_dir) / best)['state_dict']


def test_an_unknown_setting_is_refused():
    with pytest.raises(ValueError, match="no setting 'max_keep_ckpt'"):
        VerifiedCheckpointHook(interval=1, max_keep_ckpt=3)


@pytest.mark.parametrize('place', ['weight', 'moment', 'buffer'])
def test_values_that_are_not_finite_are_never_saved(saving_config, make_runner, place):
    saving_config.optim_wrapper.optimizer.momentum = 0.9
    runner = make_runner(saving_config)
    runner.model.register_buffer('scale', torch.ones(2))

    class SpoilHook(Hook):
        priority = 'NORMAL'

        def after_train_iter(self, runner, batch_idx, **_):
            if runner.iter != 2:
                return
            if place == 'weight':
                runner.model.head.bias.data.fill_(float('inf'))
            elif place == 'buffer':
                runner.model.scale[0] = float('nan')
            else:
                state = runner.optim_wrapper.optimizer.state[runner.model.head.bias]
                state['momentum_buffer'].fill_(float('nan'))

    runner.register_hook(SpoilHook())
    with pytest.raises(FloatingPointError, match='Nothing is saved at iteration 3: 1 tensors'):
        runner.train()
    assert names(saving_config.work_dir) == ['iter_1.pth', 'iter_2.pth']
    assert find_resumable(saving_config.work_dir).endswith('iter_2.pth')


def test_values_that_are_finite_are_saved_however_large(saving_config, make_runner):
    runner = make_runner(saving_config)
    for bits, dtype in (('64', torch.float64), ('32', torch.float32), ('16', torch.float16),
                        ('16b', torch.bfloat16)):
        runner.model.register_buffer(
            f'large_{bits}', torch.full((3, ), torch.finfo(dtype).max, dtype=dtype))
    runner.model.register_buffer('empty', torch.zeros(0))
    runner.model.register_buffer('whole', torch.ones(2, dtype=torch.int64))
    runner.train()
    assert len(names(saving_config.work_dir)) == 4


def fail(code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))
    return refuse


@pytest.mark.parametrize('step', ['fsync', 'replace'])
def test_a_full_disk_is_one_line_with_the_path_and_leaves_nothing_half_written(
        saving_config, make_runner, monkeypatch, step):
    runner = make_runner(saving_config)
    saving_config.train_cfg.max_iters = 2
    folder = Path(runner.work_dir)
    write = atomic.os.replace

    def second_fails(source, target):
        if str(target).endswith('iter_2.pth'):
            fail(errno.ENOSPC)()
        write(source, target)

    if step == 'replace':
        monkeypatch.setattr(atomic.os, 'replace', second_fails)
    else:
        sync = os.fsync
        monkeypatch.setattr(atomic.os, 'fsync', lambda handle: fail(errno.ENOSPC)() if (
            folder / 'iter_1.pth').exists() and (folder / 'last_checkpoint').exists()
            else sync(handle))
    with pytest.raises(WriteError, match=r'cannot write .*iter_2\.pth: No space left on device$'):
        runner.train()
    assert names(folder) == ['iter_1.pth']
    assert not list(folder.glob('.*.part'))
    assert (folder / 'last_checkpoint').read_text() == 'iter_1.pth'
    assert find_resumable(folder).endswith('iter_1.pth')


def test_a_save_that_does_not_read_back_never_gets_its_name(tmp_path, monkeypatch):
    writer = CheckpointWriter()
    old = tmp_path / 'old.pth'
    old.write_bytes(b'old')
    writer.remove(old)
    with pytest.raises(CheckpointError, match='cut off or damaged'):
        writer.write(b'PK\x03\x04 not whole', tmp_path / 'new.pth')
    assert [p.name for p in tmp_path.iterdir()] == ['old.pth']


def test_what_a_killed_save_left_is_removed(saving_config, make_runner):
    folder = Path(saving_config.work_dir)
    folder.mkdir()
    for name in ('.iter_7.pth.123.part', '.last_checkpoint.123.part'):
        (folder / name).write_bytes(b'half')
    make_runner(saving_config).train()
    assert not list(folder.glob('.*.part'))


def damage(path, how):
    raw = bytearray(path.read_bytes())
    if how == 'cut':
        path.write_bytes(raw[:-100])
    elif how == 'empty':
        path.write_bytes(b'')
    elif how == 'flip':
        raw[len(raw) // 2] ^= 1
        path.write_bytes(raw)
    elif how == 'nan':
        content = torch.load(path, weights_only=False)
        content['state_dict']['head.bias'].fill_(float('nan'))
        torch.save(content, path)
    else:
        path.unlink()


@pytest.mark.parametrize('how', ['cut', 'empty', 'flip', 'nan', 'gone'])
def test_resuming_passes_over_what_is_damaged_and_says_so(saving_config, make_runner, how):
    make_runner(saving_config).train()
    folder = Path(saving_config.work_dir)
    damage(folder / 'iter_4.pth', how)
    told = []
    assert find_resumable(folder, told.append) == str(folder / 'iter_3.pth')
    assert len(told) == (0 if how == 'gone' else 1)
    assert all('passed over' in line and 'iter_4.pth' in line for line in told)


@pytest.mark.parametrize('pointer', ['', '\0', 'iter_99.pth', '/nowhere/iter_1.pth', '\udcff'])
def test_a_torn_pointer_is_no_reason_to_refuse(saving_config, make_runner, pointer):
    make_runner(saving_config).train()
    folder = Path(saving_config.work_dir)
    (folder / 'last_checkpoint').write_bytes(pointer.encode('utf-8', 'surrogateescape'))
    assert find_resumable(folder) == str(folder / 'iter_4.pth')


def test_the_newest_is_the_last_saved_wherever_it_was_copied(saving_config, make_runner, tmp_path):
    make_runner(saving_config).train()
    # A run that went on from iteration 2, beside checkpoints of an older one.
    saving_config.resume, saving_config.train_cfg.max_iters = True, 3
    saving_config.load_from = f'{saving_config.work_dir}/iter_2.pth'
    saving_config.experiment_name += 'again'
    make_runner(saving_config).train()
    copy = shutil.copytree(saving_config.work_dir, tmp_path / 'copy', copy_function=shutil.copy)
    for number, path in enumerate(sorted(Path(copy).glob('*.pth'))):
        os.utime(path, (number, number))
    assert find_resumable(copy) == f'{copy}/iter_3.pth'


def test_a_folder_of_damaged_checkpoints_is_not_begun_anew(saving_config, make_runner):
    make_runner(saving_config).train()
    for path in Path(saving_config.work_dir).glob('*.pth'):
        path.write_bytes(b'')
    with pytest.raises(ConfigError, match=r'no checkpoint in .* can be continued: .*is empty'):
        find_resumable(saving_config.work_dir, lambda line: None)


def test_a_folder_without_checkpoints_is_a_new_run(tmp_path):
    assert find_resumable(tmp_path) is None
    assert find_resumable(tmp_path / 'nowhere') is None
