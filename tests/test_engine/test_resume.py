# Copyright (c) mvp_mm authors. All rights reserved.
"""Two times N iterations are N iterations, a checkpoint, and N more, to the last bit."""
from __future__ import annotations

import copy
import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import distributed, multiprocessing

from mvp_mm.datasets.draws import seed_globals
from mvp_mm.engine import PerceptionRunner
from mvp_mm.rehearsal.step import forget_runs
from tests.test_engine.processes import START_METHOD, start_clean
from tests.test_engine.resume_runs import END, MIDDLE, make_data, resumed, small_config, trace

# Where the step begins that the checkpoint of the middle lies in.
START = 3
KINDS = dict(parallel={'model.llm.bf16_weights': True}, sharded={
    'runner_type': 'ShardedRunner', 'model_wrapper_cfg': None, 'model.llm.sequence_packing': True,
    'default_hooks.checkpoint.asynchronous': True})


def run_process(rank, folder):
    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)
    os.chdir(folder)
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2)
    found = {}
    for name, settings in KINDS.items():
        for kind, more in ((name, {}), (f'{name}_resumed', resumed(name))):
            found[kind] = trace(small_config(
                folder, kind, launcher='pytorch', **settings, **more))
    torch.save(found, f'{folder}/found{rank}.pth')
    distributed.destroy_process_group()


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Traces by the name of the run; of two processes, a pair."""
    folder = tmp_path_factory.mktemp('resume')
    before = os.getcwd()
    os.chdir(folder)
    try:
        make_data(folder)
        found = dict(straight=trace(small_config(folder, 'straight')))
        found['resumed'] = trace(small_config(folder, 'resumed', **resumed('straight')))
        workers = {'train_dataloader.num_workers': 2, 'val_cfg': None, 'val_dataloader': None,
                   'val_evaluator': None}
        found['workers_resumed'] = trace(small_config(
            folder, 'workers', **resumed('straight'), **workers))
        multiprocessing.start_processes(
            run_process, (folder, ), nprocs=2, start_method=START_METHOD)
        ranks = [torch.load(folder / f'found{rank}.pth') for rank in range(2)]
        for name in ranks[0]:
            found[name] = [rank[name] for rank in ranks]
    finally:
        os.chdir(before)
    return found


def differing(first, second):
    """Which parts of two traces of an iteration differ."""
    return [key for key in first if first[key] != second[key]]


@pytest.mark.parametrize('name', ['resumed', 'workers_resumed'])
def test_a_resumed_run_continues_bit_for_bit(runs, name):
    straight, other = runs['straight'], runs[name]
    assert list(straight) == list(range(1, END + 1))
    # The checkpoint lies inside a step, whose passes are repeated.
    assert list(other) == list(range(START + 1, END + 1)) and START < MIDDLE
    assert {i: differing(straight[i], row) for i, row in other.items() if straight[i] != row} == {}


@pytest.mark.parametrize('name', KINDS)
def test_two_ranks_continue_bit_for_bit(runs, name):
    for straight, other in zip(runs[name], runs[f'{name}_resumed'], strict=True):
        assert list(other) == list(range(START + 1, END + 1))
        assert {i: differing(straight[i], row)
                for i, row in other.items() if straight[i] != row} == {}


def test_iterations_draw_different_numbers(runs):
    rows = runs['straight'].values()
    assert len({str(row['asked']) for row in rows}) == END
    assert len({str(row['pixels']) for row in rows}) == END
    weights = [tuple(row['weights']) for row in rows]
    assert len(set(weights)) == 4  # before, and after each of three steps


def test_ranks_and_iterations_are_seeded_apart():
    def drawn(*numbers):
        seed_globals(*numbers)
        return float(torch.rand(1)), float(np.random.rand()), random.random()

    draws = [drawn(*numbers) for numbers in ((0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 2))]
    for column in zip(*draws, strict=True):
        assert len(set(column)) == 4
    assert drawn(0, 0, 1) == draws[0]


class Die(Hook):
    """Kills the process in the middle of an iteration."""

    def __init__(self, at):
        self.at = at

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def killed(cfg, at):
    """Train in a process of its own that is killed; its exit code."""
    def run():
        runner = Runner.from_cfg(cfg)
        runner.register_hook(Die(at), priority='VERY_HIGH')
        runner.train()

    process = start_clean(run)
    process.join()
    return process.exitcode


def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(toy_config, make_runner, tmp_path):
    toy_config.custom_hooks.append(dict(type='ExactResumeHook'))
    toy_config.model.noise = 0.1
    toy_config.optim_wrapper.accumulative_counts = 2
    toy_config.default_hooks.checkpoint.update(interval=1, max_keep_ckpts=-1)
    toy_config.train_cfg.max_iters = 9
    expected = make_runner(copy.deepcopy(toy_config)).train().head.weight
    forget_runs()
    toy_config.work_dir = str(tmp_path / 'killed')
    for at in (4, 7):
        assert killed(toy_config, at) == -signal.SIGKILL
        last = tmp_path / f'killed/iter_{at - 1}.pth'
        toy_config.update(resume=True, load_from=str(last))
    forget_runs()
    assert torch.equal(make_runner(toy_config).train().head.weight, expected)


def toy_checkpoint(toy_config, make_runner):
    """A checkpoint after four steps, and settings to resume from it."""
    toy_config.custom_hooks.append(dict(type='ExactResumeHook'))
    runner = make_runner(copy.deepcopy(toy_config))
    runner.train()
    forget_runs()
    path = f'{runner.work_dir}/iter_4.pth'
    toy_config.update(resume=True, load_from=path)
    toy_config.train_cfg.max_iters = 6
    return path, torch.load(path, weights_only=False)


def test_a_checkpoint_without_optimizer_is_refused(toy_config, make_runner):
    path, checkpoint = toy_checkpoint(toy_config, make_runner)
    del checkpoint['optimizer']
    torch.save(checkpoint, path)
    with pytest.raises(ValueError, match='iter_4.pth: it holds no state of the optimizer'):
        make_runner(toy_config).train()


def test_another_seed_is_refused(toy_config, make_runner):
    toy_checkpoint(toy_config, make_runner)
    toy_config.randomness.seed = 5
    with pytest.raises(ValueError, match='began with randomness.seed=0, this one has 5'):
        make_runner(toy_config).train()


def test_a_checkpoint_keeps_the_window_of_the_log_alone(toy_config, make_runner):
    toy_config.log_processor.window_size = 3
    _, checkpoint = toy_checkpoint(toy_config, make_runner)
    lengths = {name: len(history.data[0])
               for name, history in checkpoint['message_hub']['log_scalars'].items()}
    assert lengths['train/loss'] == 3 and max(lengths.values()) == 3


def test_a_sampler_without_draws_is_told(toy_config, make_runner):
    toy_config.custom_hooks.append(dict(type='ExactResumeHook'))
    toy_config.train_dataloader.sampler = dict(type='mmengine.InfiniteSampler')
    runner = make_runner(toy_config)
    runner.train()
    text = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert 'InfiniteSampler does not say which draw an index is' in text


def test_a_run_is_resumed_from_the_memory_of_the_host(toy_config, make_runner, monkeypatch):
    toy_checkpoint(toy_config, make_runner)
    seen, plain = [], PerceptionRunner.load_checkpoint

    def load(self, filename, map_location='device', **kwargs):
        seen.append(map_location)
        return plain(self, filename, map_location, **kwargs)

    monkeypatch.setattr(PerceptionRunner, 'load_checkpoint', load)
    PerceptionRunner.from_cfg(toy_config).train()
    assert seen == ['cpu']
