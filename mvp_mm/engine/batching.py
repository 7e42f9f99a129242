# Copyright (c) mvp_mm authors. All rights reserved.
"""One batch size whatever the number of processes."""
import os

from mmengine.config import Config

from mvp_mm.engine.config_check import ConfigError

_SIZE_VARIABLES = dict(pytorch='WORLD_SIZE', slurm='SLURM_NTASKS', mpi='OMPI_COMM_WORLD_SIZE')


def count_processes(launcher: str) -> int:
    """How many processes a launcher has started, before they have met."""
    return 1 if launcher == 'none' else int(os.environ[_SIZE_VARIABLES[launcher]])


def spread_batch(cfg: Config, processes: int) -> int:
    """Make the config's ``total_batch_size`` of the processes at hand.

    A process takes ``train_dataloader.batch_size`` images at once, or fewer where there are more
    processes than that needs. What is missing is made up by accumulating gradients. mmengine
    counts a step for every forward pass: the numbers of steps of loop, schedule and checkpoints
    grow with it, so that the optimizer's steps stay what the config says.

    Args:
        cfg (Config): The config to change; without ``total_batch_size`` it stays as it is.
        processes (int): Number of processes.

    Returns:
        int: Forward passes for each step of the optimizer.

    Raises:
        ConfigError: If the total cannot be made of equal shares.
    """
    total = cfg.get('total_batch_size')
    if total is None:
        return 1
    share = total // processes
    batch = min(cfg.train_dataloader.batch_size, share)
    if share * processes != total or batch == 0 or share % batch:
        raise ConfigError(
            f'total_batch_size={total} cannot be made of {processes} processes with '
            f'train_dataloader.batch_size={cfg.train_dataloader.batch_size} images each: choose '
            'numbers that divide it, or total_batch_size=None')
    cfg.train_dataloader.batch_size = batch
    passes = share // batch
    if passes > 1:
        cfg.optim_wrapper.accumulative_counts = passes
        _stretch(cfg, passes)
    return passes


def _stretch(cfg: Config, factor: int) -> None:
    """Multiply every number of steps."""
    schedulers = cfg.get('param_scheduler') or []
    hooks = cfg.get('default_hooks') or {}
    places = [(cfg.train_cfg, ('max_iters', 'val_interval')),
              *((scheduler, ('begin', 'end', 'T_max')) for scheduler in schedulers
                if not scheduler.get('by_epoch', True)),
              (hooks.get('checkpoint') or {}, ('interval', ))]
    for place, keys in places:
        for key in keys:
            if place.get(key) is not None:
                place[key] = place[key] * factor
