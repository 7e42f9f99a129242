# Copyright (c) mvp_mm authors. All rights reserved.
import pytest
from mmengine.config import Config

from mvp_mm.engine.batching import count_processes, spread_batch
from mvp_mm.engine.config_check import ConfigError


def config(total=64, batch=8):
    return Config(dict(
        total_batch_size=total, train_dataloader=dict(batch_size=batch),
        optim_wrapper=dict(type='OptimWrapper'),
        train_cfg=dict(max_iters=100, val_interval=101),
        param_scheduler=[dict(type='LinearLR', by_epoch=False, end=10),
                         dict(type='CosineAnnealingLR', by_epoch=False, begin=10, end=100)],
        default_hooks=dict(checkpoint=dict(interval=20))))


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
