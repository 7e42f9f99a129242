# Copyright (c) mvp_mm authors. All rights reserved.
"""Gradient accumulation: one total batch size whatever the number of processes."""
from __future__ import annotations

import os

from mmengine.config import Config

from mvp_mm.engine.config_error import ConfigError

_SIZE_VARIABLES = dict(pytorch='WORLD_SIZE', slurm='SLURM_NTASKS', mpi='OMPI_COMM_WORLD_SIZE')
_RANK_VARIABLES = dict(pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK')

# Keys of mmengine's schedulers: numbers of steps, and what is the same at any pace.
_STEPS = ('begin', 'end', 'T_max', 'milestones', 'step_size')
_NO_STEPS = ('type', '_scope_', 'by_epoch', 'verbose', 'param_name', 'factor', 'start_factor',
             'end_factor', 'eta_min', 'eta_min_ratio', 'power')
# Hooks that do something in every forward pass, at a pace that the config sets.
_COUNTING_HOOKS = ('EMAHook', 'mmengine.EMAHook')


def count_processes(launcher: str) -> int:
    """Number of processes that a launcher has started, before the process group exists."""
    return 1 if launcher == 'none' else int(os.environ[_SIZE_VARIABLES[launcher]])


def is_first_process(launcher: str) -> bool:
    """Whether this is rank 0, before the process group exists."""
    return launcher == 'none' or os.environ[_RANK_VARIABLES[launcher]] == '0'


def spread_batch(cfg: Config, processes: int) -> int:
    """Make the config's ``total_batch_size`` of the processes at hand.

    A process takes ``train_dataloader.batch_size`` images per forward pass, or fewer where there
    are more processes than that needs; gradients are accumulated for the rest. mmengine counts
    forward passes: the iteration counts of loop, schedule and checkpoints are multiplied, so that
    the optimizer's steps stay what the config says.

    Args:
        cfg: The config to change; without ``total_batch_size`` it stays as it is.
        processes: Number of processes.

    Returns:
        Forward passes for each step of the optimizer.

    Raises:
        ConfigError: If the total cannot be made of equal shares, or if the schedule cannot be
            counted in forward passes.
    """
    total = cfg.get('total_batch_size')
    if total is None:
        _tell_sampler(cfg)
        return 1
    share = total // processes
    batch = min(cfg.train_dataloader.batch_size, share)
    if share * processes != total or batch == 0 or share % batch:
        raise ConfigError(
            f'total_batch_size={total} cannot be made of {processes} processes with '
            f'train_dataloader.batch_size={cfg.train_dataloader.batch_size} images each: choose '
            'numbers that divide it, or total_batch_size=None')
    cfg.train_dataloader.batch_size = batch
    _tell_sampler(cfg)
    passes = share // batch
    if passes > 1:
        cfg.optim_wrapper.accumulative_counts = passes
        _scale_iters_for_accumulation(cfg, passes)
    return passes


def _tell_sampler(cfg: Config) -> None:
    """Tell a sampler that shares out costs how many images a process takes."""
    loader = cfg.get('train_dataloader') or {}
    sampler = loader.get('sampler')
    if isinstance(sampler, dict) and sampler.get('costs') is not None:
        sampler['images_per_rank'] = loader['batch_size']


def _scale_iters_for_accumulation(cfg: Config, factor: int) -> None:
    """Multiply every iteration count by the accumulation steps; counts of epochs stay.

    mmengine counts forward passes, not steps of the optimizer.

    Raises:
        ConfigError: If a setting depends on the number of steps in a way that is not known here.
    """
    loop = cfg.train_cfg
    if loop.get('max_epochs') is None:
        _scale(loop, ('max_iters', 'val_begin', 'val_interval', 'dynamic_intervals'), factor)
    schedulers = cfg.get('param_scheduler') or []
    schedulers = [schedulers] if isinstance(schedulers, dict) else schedulers
    for position, scheduler in enumerate(schedulers):
        if not scheduler.get('by_epoch', True):
            _check_schedule(scheduler, f'param_scheduler[{position}]')
            _scale(scheduler, _STEPS, factor)
    hooks = dict(cfg.get('default_hooks') or {})
    checkpoint = hooks.pop('checkpoint', None) or {}
    if not checkpoint.get('by_epoch', True):
        _scale(checkpoint, ('interval', 'save_begin'), factor)
    for hook in (*hooks.values(), *(cfg.get('custom_hooks') or [])):
        if isinstance(hook, dict) and hook.get('type') in _COUNTING_HOOKS:
            raise ConfigError(
                f"{hook['type']} counts forward passes, {factor} of which make a step here: use "
                'total_batch_size=None, or as many processes as make it in one pass')


def _check_schedule(scheduler: dict, path: str) -> None:
    """Refuse keys of which it is not known whether they speak of steps."""
    known = {*_STEPS, *_NO_STEPS}
    if 'milestones' in scheduler or 'step_size' in scheduler:
        known.add('gamma')  # of each of these, not of every step
    unknown = sorted(set(scheduler) - known)
    if unknown:
        raise ConfigError(
            f"{path}.{unknown[0]}: {scheduler['type']} cannot be counted in forward passes, which "
            'this number of processes needs: use total_batch_size=None, or as many processes as '
            'make it in one pass')


def _scale(place: dict, keys: tuple[str, ...], factor: int) -> None:
    for key in keys:
        if place.get(key) is not None:
            place[key] = _times(place[key], factor)


def _times(value: float | list | tuple, factor: int) -> float | list | tuple:
    """Multiply a number, or all numbers of nested lists."""
    if isinstance(value, (list, tuple)):
        return type(value)(_times(item, factor) for item in value)
    return value * factor
