# Copyright (c) mvp_mm authors. All rights reserved.
"""A signal saves the run at an optimizer step and ends it with its exit code."""
from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from mmengine.hooks import Hook

from mvp_mm.engine.latest_checkpoint import find_resumable
from mvp_mm.engine.preemption import EXIT_CODE


class Send(Hook):
    """Sends this process a signal after an iteration, before the hook that looks for it."""

    def __init__(self, name, at=2):
        self.number, self.at = getattr(signal, name), at

    def after_train_iter(self, runner, batch_idx, **_):
        if runner.iter + 1 == self.at:
            os.kill(os.getpid(), self.number)


@pytest.fixture(autouse=True)
def handlers():
    """Put this process' handlers back, whatever a stopped run has left."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def config(toy_config):
    toy_config.default_hooks.checkpoint = dict(
        type='VerifiedCheckpointHook', interval=100, by_epoch=False)
    toy_config.custom_hooks.append(dict(type='PreemptionHook'))
    toy_config.train_cfg.max_iters = 6
    return toy_config


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGUSR1'])
def test_a_signal_saves_and_exits_and_the_run_goes_on_exactly(config, make_runner, name):
    whole = make_runner(config)
    whole.train()
    config.work_dir += name
    config.experiment_name += name
    runner = make_runner(config)
    runner.register_hook(Send(name))
    with pytest.raises(SystemExit) as stopped:
        runner.train()
    assert stopped.value.code == EXIT_CODE == 75
    found = find_resumable(config.work_dir)
    assert found.endswith('iter_2.pth')
    config.resume, config.load_from = True, found
    config.experiment_name += 'again'
    again = make_runner(config)
    again.train()
    assert again.iter == 6
    for key, value in whole.model.state_dict().items():
        assert (again.model.state_dict()[key] == value).all(), key


def test_a_half_accumulated_step_is_finished_first(config, make_runner):
    config.optim_wrapper.accumulative_counts = 3
    runner = make_runner(config)
    runner.register_hook(Send('SIGTERM', at=1))
    with pytest.raises(SystemExit):
        runner.train()
    assert find_resumable(config.work_dir).endswith('iter_3.pth')


def test_a_save_of_the_same_iteration_is_not_repeated(config, make_runner):
    config.default_hooks.checkpoint.interval = 2
    runner = make_runner(config)
    runner.register_hook(Send('SIGTERM'))
    saves = []
    save = runner.save_checkpoint
    runner.save_checkpoint = lambda *args, **kwargs: (saves.append(args), save(*args, **kwargs))
    with pytest.raises(SystemExit):
        runner.train()
    assert len(saves) == 1


def test_handlers_are_put_back_after_a_run(config, make_runner):
    before = signal.getsignal(signal.SIGTERM)
    make_runner(config).train()
    assert signal.getsignal(signal.SIGTERM) == before


def test_without_a_verified_checkpoint_hook_signals_keep_their_meaning(config, make_runner):
    config.default_hooks.checkpoint = dict(type='CheckpointHook', interval=100, by_epoch=False)
    before = signal.getsignal(signal.SIGTERM)
    runner = make_runner(config)
    runner.call_hook('before_train')
    assert signal.getsignal(signal.SIGTERM) == before
    assert not Path(config.work_dir, 'iter_2.pth').exists()
