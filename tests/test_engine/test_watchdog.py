# Copyright (c) mvp_mm authors. All rights reserved.
"""Runs that are stuck, killed or left behind end by themselves and say where they were."""
from __future__ import annotations

import multiprocessing
import os
import re
import signal
import socket
import sys
import time

import pytest
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mvp_mm.engine import watchdog
from mvp_mm.engine.watchdog import EXIT_ORPHANED, EXIT_STALLED, end_with_launcher
from mvp_mm.engine.wrappers import init_cpu_process_group
from mvp_mm.registry import DATASETS
from tests.test_engine.processes import start_clean
from tests.test_engine.toys import ToyDataset

FORK = multiprocessing.get_context('fork')


@DATASETS.register_module()
class SleepyDataset(ToyDataset):
    """Reading its last item takes for ever."""

    def prepare_data(self, idx):
        if idx == self.size - 1:
            time.sleep(1000)
        return super().prepare_data(idx)


class At(Hook):
    """Does something before an iteration."""

    def __init__(self, iteration, action):
        self.iteration, self.action = iteration, action

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            self.action(runner)


def write_to(path):
    """Send the output of this process to a file."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stderr = sys.__stderr__ = os.fdopen(2, 'w', closefd=False)


def run(cfg, folder, *hooks):
    """Train in a process of its own.

    Returns:
        Its exit code and its output.
    """
    def train():
        write_to(folder / 'output')
        runner = Runner.from_cfg(cfg)
        for hook in hooks:
            runner.register_hook(hook)
        runner.train()

    process = start_clean(train)
    process.join(60)
    if process.is_alive():
        process.kill()
        pytest.fail('the run did not end')
    return process.exitcode, (folder / 'output').read_text()


@pytest.fixture
def watched(toy_config):
    toy_config.custom_hooks.append(
        dict(type='WatchdogHook', stall_timeout=1, worker_timeout=30, grace=0.2))
    toy_config.train_cfg.max_iters = 30
    toy_config.train_dataloader.sampler.shuffle = False
    return toy_config


def stopped_worker(runner):
    worker = multiprocessing.active_children()[0]
    os.kill(worker.pid, signal.SIGSTOP)


def test_a_stalled_rank_prints_its_stacks_and_ends(watched, tmp_path):
    def long_sleep(runner):
        time.sleep(1000)

    code, text = run(watched, tmp_path, At(3, long_sleep))
    assert code == EXIT_STALLED
    assert 'no progress for 1 s, while in train iteration 4' in text and 'in long_sleep' in text
    stacks, = tmp_path.rglob('stacks_rank0.txt')
    assert 'in long_sleep' in stacks.read_text()


def test_a_worker_that_is_stuck_in_a_read_is_shown(watched, tmp_path):
    watched.train_dataloader.update(num_workers=1, persistent_workers=True)
    watched.train_dataloader.dataset.type = 'SleepyDataset'
    code, text = run(watched, tmp_path)
    assert code == EXIT_STALLED
    assert 'S (sleeping)' in text and 'in prepare_data' in text


def test_a_frozen_worker_is_named(watched, tmp_path):
    watched.train_dataloader.update(num_workers=1, persistent_workers=True)
    code, text = run(watched, tmp_path, At(2, stopped_worker))
    assert code == EXIT_STALLED
    assert 'T (stopped)' in text


def test_a_frozen_rank_is_named_and_shows_its_stacks_in_time(watched, tmp_path):
    watched.custom_hooks[-1].update(stall_timeout=2, grace=1)
    watched.update(launcher='pytorch', env_cfg=dict(dist_cfg=dict(backend='gloo')),
                   model_wrapper_cfg=dict(type='mvp_mm.MVPDistributedDataParallel'))
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = str(probe.getsockname()[1])

    def freeze_itself(runner):
        os.kill(os.getpid(), signal.SIGSTOP)

    def train(rank):
        write_to(tmp_path / f'output{rank}')
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2',
                          LOCAL_WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
        init_cpu_process_group('pytorch')
        runner = Runner.from_cfg(watched)
        if rank == 1:
            runner.register_hook(At(3, freeze_itself))
        runner.train()

    ranks = [start_clean(lambda rank=rank: train(rank)) for rank in range(2)]
    try:
        ranks[0].join(60)
        ranks[1].join(10)
        assert ranks[0].exitcode == EXIT_STALLED and ranks[1].exitcode not in (None, 0)
    finally:
        for process in ranks:
            process.kill()
    first, frozen = (tmp_path.joinpath(f'output{rank}').read_text() for rank in range(2))
    assert f'rank 1 (pid {ranks[1].pid}): T (stopped)' in first
    assert 'in update_params' in first and 'in freeze_itself' in frozen


def test_a_worker_has_a_time_out(watched, tmp_path):
    watched.custom_hooks[-1].update(stall_timeout=30, worker_timeout=1)
    watched.train_dataloader.update(num_workers=1, persistent_workers=True)
    watched.train_dataloader.dataset.type = 'SleepyDataset'
    code, text = run(watched, tmp_path)
    assert code == 1 and 'DataLoader timed out after 1 seconds' in text


def test_a_killed_worker_is_named(watched, tmp_path):
    watched.train_dataloader.update(num_workers=1, persistent_workers=True)
    watched.custom_hooks[-1].update(stall_timeout=30)

    def kill(runner):
        worker, = multiprocessing.active_children()
        os.kill(worker.pid, signal.SIGKILL)
        # One that is still ending may be met as a connection that breaks off.
        worker.join(5)

    code, text = run(watched, tmp_path, At(2, kill))
    assert code == 1 and re.search(r'DataLoader worker \(pid(\(s\))? \d+\)', text)


class Slow(Hook):
    """Takes longer than the time-out in all, but not in one iteration."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        time.sleep(0.15)


def test_a_run_that_makes_progress_is_left_alone(watched, tmp_path):
    watched.custom_hooks[-1].update(stall_timeout=4)
    code, text = run(watched, tmp_path, Slow())
    assert code == 0 and 'no progress' not in text


def test_a_run_that_ended_is_no_longer_watched(watched, make_runner):
    watched.custom_hooks[-1].update(stall_timeout=100)
    runner = make_runner(watched)
    runner.train()
    hook = next(h for h in runner.hooks if isinstance(h, watchdog.WatchdogHook))
    assert not hook._watchdog.is_alive()


def test_a_run_that_raises_is_no_longer_watched(watched, make_runner):
    watched.custom_hooks[-1].update(stall_timeout=100)
    runner = make_runner(watched)

    def fail(runner):
        raise KeyError('planted')

    runner.register_hook(At(2, fail))
    with pytest.raises(KeyError, match='planted'):
        runner.train()
    hook = next(h for h in runner.hooks if isinstance(h, watchdog.WatchdogHook))
    hook._watchdog.join(5)
    assert not hook._watchdog.is_alive()


def orphan(cfg, folder, told):
    """Start a run from a launcher that is killed; its process id is written to a file."""
    def rank():
        end_with_launcher()
        if not told:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        write_to(folder / 'output')
        runner = Runner.from_cfg(cfg)
        runner.register_hook(At(1, begun))
        runner.train()

    def begun(runner):
        (folder / 'pid').write_text(str(os.getpid()))
        time.sleep(1000)

    def launcher():
        FORK.Process(target=rank).start()
        while not (folder / 'pid').exists() or not (folder / 'pid').read_text():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)

    process = start_clean(launcher)
    process.join(60)
    if process.is_alive():
        process.kill()
        pytest.fail('the launcher did not end: ' + (folder / 'output').read_text())
    return int((folder / 'pid').read_text())


def ends(pid, seconds):
    """Whether a process ends in time; one that nobody waits for counts as ended."""
    for _ in range(int(seconds * 10)):
        if watchdog._state(pid)[0] in 'gZX':
            return True
        time.sleep(0.15)
    os.kill(pid, signal.SIGKILL)
    return False


@pytest.mark.parametrize('told', [True, False], ids=['by signal', 'by looking'])
def test_a_rank_ends_when_its_launcher_does(watched, tmp_path, told):
    watched.custom_hooks[-1].update(stall_timeout=100)
    pid = orphan(watched, tmp_path, told)
    assert ends(pid, 20)
    assert ('is gone' in (tmp_path / 'output').read_text()) is not told
    assert EXIT_ORPHANED != EXIT_STALLED


def test_a_fork_does_not_take_its_parents_launcher_for_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(watchdog, '_launcher', [os.getpid() + 1, 1])
    thread = watchdog.Watchdog(sys._getframe(), 100, 1, tmp_path)
    assert thread._parent is None


def test_a_run_without_a_launcher_outlives_its_shell(monkeypatch, tmp_path):
    ended = []
    monkeypatch.setattr(watchdog, '_launcher', [])
    monkeypatch.setattr(watchdog.Watchdog, '_end', lambda *told: ended.append(told))
    thread = watchdog.Watchdog(sys._getframe(), 5, 0.1, tmp_path)
    monkeypatch.setattr(os, 'getppid', lambda: 1)
    thread.start()
    time.sleep(1.5)
    thread.stopped.set()
    thread.join(5)
    assert not ended


def test_numbers_that_are_no_seconds_are_refused():
    with pytest.raises(ValueError, match='WatchdogHook.stall_timeout must be .* above 0, got 0'):
        watchdog.WatchdogHook(stall_timeout=0)
