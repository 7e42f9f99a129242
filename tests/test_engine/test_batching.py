# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

from mvp_mm.engine.batching import count_processes, is_first_process, spread_batch
from mvp_mm.engine.config_error import ConfigError


def config(total=64, batch=8):
    return Config(dict(
        total_batch_size=total, train_dataloader=dict(batch_size=batch),
        optim_wrapper=dict(type='OptimWrapper'),
        train_cfg=dict(max_iters=100, val_interval=101),
        param_scheduler=[dict(type='LinearLR', by_epoch=False, end=10),
                         dict(type='CosineAnnealingLR', by_epoch=False, begin=10, end=100)],
        default_hooks=dict(checkpoint=dict(interval=20, by_epoch=False))))


@pytest.mark.parametrize('processes, batch, passes', [
    (8, 8, 1), (1, 8, 8), (2, 8, 4), (16, 4, 1), (64, 1, 1)])
def test_every_number_of_processes_makes_the_same_batch(processes, batch, passes):
    cfg = config()
    assert spread_batch(cfg, processes) == passes
    assert cfg.train_dataloader.batch_size == batch
    assert processes * batch * passes == 64
    assert cfg.optim_wrapper.get('accumulative_counts', 1) == passes


def test_the_optimizers_steps_stay_as_many():
    cfg = config()
    spread_batch(cfg, 2)
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval) == (400, 404)
    assert [(s.get('begin'), s.end) for s in cfg.param_scheduler] == [(None, 40), (40, 400)]
    assert cfg.default_hooks.checkpoint.interval == 80


def rates(scheduler, passes, steps=24):
    """Learning rates of the optimizer's steps, by mmengine's own scheduler."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    built = PARAM_SCHEDULERS.build(dict(scheduler, optimizer=optimizer))
    found = []
    for step in range(steps * passes):
        if (step + 1) % passes == 0:
            found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        built.step()
    return found


@pytest.mark.parametrize('scheduler', [
    dict(type='MultiStepLR', milestones=[6, 12], gamma=0.1),
    dict(type='StepLR', step_size=5, gamma=0.5), dict(type='ConstantLR', factor=0.5, end=7),
    dict(type='PolyLR', end=24, power=2.0), dict(type='CosineAnnealingLR', T_max=24)],
    ids=lambda scheduler: scheduler['type'])
def test_every_schedule_keeps_its_course(scheduler):
    scheduler['by_epoch'] = False
    cfg = config()
    cfg.param_scheduler = [dict(scheduler)]
    assert spread_batch(cfg, 4) == 2
    expected, found = rates(scheduler, 1), rates(cfg.param_scheduler[0], 2)
    assert len(set(expected)) > 1
    # A rate that moves all the time has gone a part of the way to the next step.
    for value, now, then in zip(found, expected, [*expected[1:], 0.0], strict=True):
        assert min(now, then) - 1e-9 <= value <= max(now, then) + 1e-9


@pytest.mark.parametrize('scheduler, key', [
    (dict(type='ExponentialLR', gamma=0.9), 'gamma'),
    (dict(type='CosineRestartLR', periods=[8, 16]), 'periods'),
    (dict(type='ReduceOnPlateauLR', patience=3), 'patience'),
    (dict(type='MyLR', half_life=9), 'half_life')], ids=lambda value: str(value)[:20])
def test_a_schedule_that_cannot_be_stretched_is_named(scheduler, key):
    cfg = config()
    cfg.param_scheduler = [dict(scheduler, by_epoch=False)]
    with pytest.raises(ConfigError, match=rf'param_scheduler\[0\]\.{key}: {scheduler["type"]} '):
        spread_batch(cfg, 4)
    assert spread_batch(config(), 8) == 1


def test_intervals_of_loop_and_checkpoints_are_stretched():
    cfg = config()
    cfg.train_cfg.update(val_begin=5, dynamic_intervals=[(50, 10), (80, 5)])
    cfg.default_hooks.checkpoint.save_begin = 30
    spread_batch(cfg, 4)
    assert cfg.train_cfg.val_begin == 10
    assert [tuple(pair) for pair in cfg.train_cfg.dynamic_intervals] == [(100, 20), (160, 10)]
    assert (cfg.default_hooks.checkpoint.interval, cfg.default_hooks.checkpoint.save_begin) == (
        40, 60)


def test_what_is_counted_in_epochs_stays():
    cfg = config()
    cfg.train_cfg = dict(max_epochs=12, val_interval=1)
    cfg.param_scheduler = [dict(type='MultiStepLR', milestones=[8, 11], by_epoch=True)]
    cfg.default_hooks.checkpoint = dict(interval=1, by_epoch=True)
    spread_batch(cfg, 4)
    assert cfg.train_cfg == dict(max_epochs=12, val_interval=1)
    assert cfg.param_scheduler[0].milestones == [8, 11]
    assert cfg.default_hooks.checkpoint.interval == 1


def test_a_moving_average_of_weights_is_refused():
    cfg = config()
    cfg.custom_hooks = [dict(type='EMAHook', momentum=1e-4)]
    with pytest.raises(ConfigError, match='EMAHook counts forward passes, 2 of which make a step'):
        spread_batch(cfg, 4)


@pytest.mark.parametrize('processes, batch', [(3, 8), (128, 8), (1, 7)])
def test_shares_that_are_not_equal_are_refused(processes, batch):
    with pytest.raises(ConfigError, match=f'64 cannot be made of {processes} processes with .*'
                                          f'batch_size={batch}'):
        spread_batch(config(batch=batch), processes)


def test_without_a_total_nothing_changes():
    cfg = config(total=None)
    assert spread_batch(cfg, 3) == 1 and cfg.train_dataloader.batch_size == 8


def test_processes_are_counted_before_they_meet(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '6')
    monkeypatch.setenv('SLURM_NTASKS', '12')
    assert [count_processes(x) for x in ('none', 'pytorch', 'slurm')] == [1, 6, 12]


@pytest.mark.parametrize('launcher, variable', [
    ('pytorch', 'RANK'), ('slurm', 'SLURM_PROCID'), ('mpi', 'OMPI_COMM_WORLD_RANK')])
def test_one_process_speaks_for_all(monkeypatch, launcher, variable):
    monkeypatch.delenv('RANK', raising=False)
    monkeypatch.setenv(variable, '3')
    assert not is_first_process(launcher) and is_first_process('none')
    monkeypatch.setenv(variable, '0')
    assert is_first_process(launcher)


@pytest.mark.parametrize('total', [64, None])
def test_a_sampler_of_equal_costs_is_told_the_batch_of_a_process(total):
    cfg = config()
    cfg.total_batch_size = total
    cfg.train_dataloader.sampler = dict(type='RatioSampler', ratios=[1, 1], costs=[3, 1])
    spread_batch(cfg, 16)
    assert cfg.train_dataloader.sampler.images_per_rank == cfg.train_dataloader.batch_size
