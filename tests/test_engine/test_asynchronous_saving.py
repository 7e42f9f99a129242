# Copyright (c) mvp_mm authors. All rights reserved.
"""A save in a thread: what it holds, what waits for it, and who gets its error."""
from __future__ import annotations

import errno
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mvp_mm.engine import VerifiedCheckpointHook, checkpoint_writer, run_state, saving
from mvp_mm.engine.checkpoint_writer import CheckpointWriter, snapshot
from mvp_mm.engine.latest_checkpoint import find_resumable
from mvp_mm.engine.run_state import ConfigText
from mvp_mm.engine.runner import PerceptionRunner
from mvp_mm.rehearsal.step import forget_runs
from mvp_mm.utils.atomic import WriteError
from mvp_mm.utils.checkpoint_io import CheckpointError, read_checkpoint
from tests.test_engine.processes import start_clean


@pytest.fixture
def config(toy_config):
    """The toy's config, with moments and schedules, saved at every iteration in a thread."""
    toy_config.default_hooks.checkpoint = dict(
        type='VerifiedCheckpointHook', interval=1, by_epoch=False, asynchronous=True)
    toy_config.default_hooks.timer = None  # whose histories differ from run to run
    toy_config.optim_wrapper.optimizer = dict(type='AdamW', lr=0.01)
    toy_config.param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=9)]
    toy_config.custom_hooks.append(dict(type='ExactResumeHook'))
    yield toy_config
    forget_runs()


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still."""
    monkeypatch.setattr(saving.time, 'time', lambda: 1.0)
    monkeypatch.setattr(run_state.time, 'strftime', lambda *_: 'now')


class Do(Hook):
    """Calls a function with the runner before every iteration."""

    def __init__(self, action):
        self.action = action

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.action(runner)


def saved(config):
    return sorted(path.name for path in Path(config.work_dir).glob('*.pth'))


def test_files_are_the_bytes_of_saves_that_the_run_waits_for(config, clock):
    found = []
    for asynchronous in (False, True):
        runner = PerceptionRunner.from_cfg(config)
        for hook in runner.hooks:  # not in the config, which the file holds
            if isinstance(hook, VerifiedCheckpointHook):
                hook.writer.asynchronous = asynchronous
        runner.train()
        found.append([Path(config.work_dir, name).read_bytes() for name in saved(config)])
        shutil.rmtree(config.work_dir)
        forget_runs()
    assert len(found[0]) == 4
    assert found[0] == found[1]


def test_memory_that_tensors_share_is_written_once_and_copied(tmp_path):
    base = torch.arange(12.0)
    state = dict(
        whole=base, again=base, tied=base.view(3, 4), part=base[2:5], turned=base.view(3, 4).T,
        alone=torch.ones(3), turned_alone=torch.ones(2, 3).T, wide=torch.ones(1).expand(4),
        empty=[torch.zeros(0), torch.zeros(0)], number=torch.tensor(3), half=torch.ones(2).half())
    for asynchronous in (False, True):
        writer = CheckpointWriter(asynchronous)
        writer.write(state, tmp_path / f'{asynchronous}.pth')
        writer.wait()
    assert (tmp_path / 'True.pth').read_bytes() == (tmp_path / 'False.pth').read_bytes()
    copied = snapshot(state)
    base.zero_()
    state['alone'].zero_()
    assert copied['whole'] is copied['again']
    assert copied['part'].tolist() == [2, 3, 4]
    assert copied['alone'].tolist() == [1, 1, 1]
    copied['whole'].fill_(7)
    assert copied['part'].tolist() == [7, 7, 7]


def test_checkpoints_hold_what_those_of_mmengine_hold(config, clock):
    run_state._mmengine_version.cache_clear()    # that of another test's working folder
    content = []
    for runner_type in (Runner, PerceptionRunner):
        runner_type.from_cfg(config).train()
        content.append(torch.load(Path(config.work_dir, 'iter_3.pth'), weights_only=False))
        forget_runs()
    reference, ours = content
    assert list(ours) == list(reference)
    assert ours['meta'] == reference['meta']
    assert ours['param_schedulers'] == reference['param_schedulers']
    assert ours['state_dict'].keys() == reference['state_dict'].keys()
    assert ours['state_dict']._metadata == reference['state_dict']._metadata
    for key, value in reference['state_dict'].items():
        assert torch.equal(ours['state_dict'][key], value)
    assert ours['optimizer']['param_groups'] == reference['optimizer']['param_groups']
    for index, moments in reference['optimizer']['state'].items():
        for key, value in moments.items():
            assert torch.equal(ours['optimizer']['state'][index][key], value)
    assert ours['message_hub'].keys() == reference['message_hub'].keys()


def test_training_goes_on_and_the_file_holds_the_moment_of_the_save(config, monkeypatch):
    trained_on, weights, in_time = threading.Event(), {}, []
    save = torch.save

    def save_late(*args):
        in_time.append(trained_on.wait(60))
        save(*args)

    def look(runner):
        weights[runner.iter] = runner.model.head.weight.detach().clone()
        if runner.iter == 3:
            trained_on.set()

    monkeypatch.setattr(checkpoint_writer.torch, 'save', save_late)
    config.default_hooks.checkpoint.interval = 2
    runner = PerceptionRunner.from_cfg(config)
    runner.register_hook(Do(look))
    runner.train()
    assert in_time[0]
    content = read_checkpoint(Path(config.work_dir, 'iter_2.pth'))
    assert torch.equal(content['state_dict']['head.weight'], weights[2])
    assert not torch.equal(weights[3], weights[2])
    moments = content['optimizer']['state']
    assert {float(one['step']) for one in moments.values()} == {2.0}


def test_a_save_waits_for_the_one_before(tmp_path, monkeypatch):
    running, most = [], []
    save = torch.save

    def save_slowly(content, file):
        running.append(content)
        most.append(len(running))
        time.sleep(0.05)
        save(content, file)
        running.pop()

    monkeypatch.setattr(checkpoint_writer.torch, 'save', save_slowly)
    writer = CheckpointWriter(asynchronous=True)
    for number in range(3):
        writer.write(dict(number=number), tmp_path / f'{number}.pth')
    writer.wait()
    assert most == [1, 1, 1]
    assert [torch.load(tmp_path / f'{number}.pth')['number'] for number in range(3)] == [0, 1, 2]


def test_an_error_ends_the_run_with_the_path_and_earlier_checkpoints_stay(config, monkeypatch):
    replace = os.replace

    def refuse_second(source, target):
        if str(target).endswith('iter_2.pth'):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, 'replace', refuse_second)
    runner = PerceptionRunner.from_cfg(config)
    with pytest.raises(WriteError, match=r'cannot write .*iter_2\.pth: No space left on device$'):
        runner.train()
    assert runner.iter == 2
    assert saved(config) == ['iter_1.pth']
    assert find_resumable(config.work_dir).endswith('iter_1.pth')
    assert not list(Path(config.work_dir).glob('.*.part'))


def test_an_error_does_not_wait_for_the_next_save(config, monkeypatch):
    config.default_hooks.checkpoint.interval = 2
    monkeypatch.setattr(checkpoint_writer, '_read_back', lambda path: (_ for _ in ()).throw(
        CheckpointError(f'{path} is damaged')))
    runner = PerceptionRunner.from_cfg(config)

    def let_it_end(runner):
        if runner.iter == 2:
            for thread in threading.enumerate():
                if thread.name == 'checkpoint':
                    thread.join()

    runner.register_hook(Do(let_it_end))
    with pytest.raises(CheckpointError, match='is damaged'):
        runner.train()
    assert runner.iter == 2
    assert saved(config) == []


def test_the_last_error_is_raised_at_the_end(tmp_path):
    writer = CheckpointWriter(asynchronous=True)
    writer.write(b'nothing', tmp_path / 'file.pth')
    with pytest.raises(CheckpointError):
        writer.wait()
    writer.wait()


def test_a_signal_waits_for_a_running_save(config, monkeypatch):
    save = torch.save

    def save_slowly(*args):
        time.sleep(0.3)
        save(*args)

    monkeypatch.setattr(checkpoint_writer.torch, 'save', save_slowly)
    config.custom_hooks.append(dict(type='PreemptionHook'))
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    runner = PerceptionRunner.from_cfg(config)
    runner.register_hook(Do(
        lambda runner: os.kill(os.getpid(), signal.SIGTERM) if runner.iter == 1 else None))
    try:
        with pytest.raises(SystemExit):
            runner.train()
        assert saved(config) == ['iter_1.pth', 'iter_2.pth']
        assert find_resumable(config.work_dir).endswith('iter_2.pth')
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_kill_inside_a_save_loses_that_save_alone(config):
    config.default_hooks.checkpoint.max_keep_ckpts = 1
    folder = Path(config.work_dir)

    def run():
        save = torch.save

        def die_in_third(content, file):
            save(content, file)
            if content['meta']['iter'] == 3:
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)

        checkpoint_writer.torch.save = die_in_third
        PerceptionRunner.from_cfg(config).train()

    process = start_clean(run)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert list(folder.glob('.iter_3.pth.*.part'))
    assert saved(config) == ['iter_2.pth']
    assert find_resumable(folder) == str(folder / 'iter_2.pth')


def test_a_config_is_formatted_once_until_it_changes(monkeypatch):
    formatted = []
    monkeypatch.setattr(Config, 'pretty_text', property(
        lambda cfg: formatted.append(1) or f'rate = {cfg.rate}'))
    text, cfg = ConfigText(), Config(dict(rate=1))
    assert [text(cfg), text(cfg)] == ['rate = 1', 'rate = 1']
    cfg.rate = 2
    assert text(cfg) == 'rate = 2'
    assert len(formatted) == 2
