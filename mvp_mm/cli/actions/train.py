# Copyright (c) mvp_mm authors. All rights reserved.
"""Training from a config."""
from __future__ import annotations

import argparse
from typing import Any

import click
import torch
from mmengine.config import Config

from mvp_mm.cli.actions.errors import run_errors_reported
from mvp_mm.cli.command import reported
from mvp_mm.engine.batching import count_processes, is_first_process, spread_batch
from mvp_mm.engine.config_check import check_config
from mvp_mm.engine.config_error import ConfigError
from mvp_mm.engine.config_files import check_weights
from mvp_mm.engine.config_guards import missing_guards
from mvp_mm.engine.latest_checkpoint import find_resumable, list_checkpoints
from mvp_mm.engine.launch import config_from_args, leave_processes, prepare_processes
from mvp_mm.engine.restart import find_own_checkpoint, may_be_restarted, requeued
from mvp_mm.registry import RUNNERS
from mvp_mm.utils.named_weights import find_weights
from mvp_mm.utils.terminal import say_busy


def apply_start(cfg: Config, resume: str | None, load_from: str | None) -> None:
    """Set what the run starts from.

    Args:
        cfg: The config to change.
        resume: A checkpoint to continue, or 'auto'.
        load_from: A checkpoint whose weights to start from.
    """
    if load_from is not None:
        cfg.load_from = load_from
    if resume is None and cfg.get('resume') and not cfg.get('load_from'):
        resume = 'auto'
    first = is_first_process(cfg.get('launcher', 'none'))
    tell = print if first else lambda line: None
    if resume != 'auto' and may_be_restarted():
        own = find_own_checkpoint(cfg.work_dir, tell)
        if own is not None:
            tell(f'train: started again, continues from {own}')
            resume = own
        elif requeued():
            tell(f'train: started again, nothing of this job in {cfg.work_dir}: begins as typed')
    if resume == 'auto':
        # Found here, not by the Runner: it would believe last_checkpoint, or resume from the
        # config's load_from instead.
        latest = find_resumable(cfg.work_dir, tell)
        if latest is None:
            print(f'--resume auto: no checkpoint in {cfg.work_dir}, starting from the beginning')
            cfg.resume = False
        resume = latest
    elif resume is None and first and list_checkpoints(cfg.work_dir):
        tell(f'train: note: begins anew in {cfg.work_dir}, where an earlier run has saved; '
             '--resume continues what was saved last')
    if resume is not None:
        cfg.resume = True
        cfg.load_from = resume


def use_float16(cfg: Config) -> None:
    """Train in float16 with a scaled loss.

    Raises:
        ConfigError: If this machine has no GPU.
    """
    if not torch.cuda.is_available():
        raise ConfigError('--amp: float16 with a scaled loss needs a GPU; leave it out, or set '
                          "optim_wrapper.dtype='bfloat16'")
    cfg.optim_wrapper.update(type='AutocastOptimWrapper', dtype='float16')


def train_model(config: str, amp: bool, resume: str | None, load_from: str | None,
                **run: Any) -> None:
    """Check a config and train.

    Args:
        config: Config file, or the name of a shipped one.
        amp: Whether to train in float16.
        resume: A checkpoint to continue, or 'auto'.
        load_from: A checkpoint whose weights to start from.
        run: ``work_dir``, ``cfg_options``, ``launcher`` and ``local_rank``.

    Raises:
        Failure: If the config cannot be run, a checkpoint not be read, or a file not be written.
    """
    launcher = run['launcher']
    say_busy('checking the config')
    with reported(ConfigError):
        cfg = config_from_args(argparse.Namespace(config=config, **run))
        if amp:
            use_float16(cfg)
        for option, path in (('--resume', resume), ('--load-from', load_from)):
            if path not in (None, 'auto'):
                check_weights(option, path)
        if resume not in (None, 'auto') and not find_weights(resume).is_file():
            raise ConfigError(f'--resume: {resume} holds weights alone and no state of a run; '
                              f'--load-from {resume} starts from them')
        apply_start(cfg, resume, load_from)
        check_config(cfg, modes=('train', 'val'))
        processes = count_processes(launcher)
        passes = spread_batch(cfg, processes)
    if is_first_process(launcher):
        for guard in missing_guards(cfg):
            click.echo(f'train: note: {guard}', err=True)
    if cfg.get('total_batch_size') is not None and is_first_process(launcher):
        print(f'total_batch_size={cfg.total_batch_size}: {processes} processes with '
              f'{cfg.train_dataloader.batch_size} images each, {passes} forward passes a step of '
              f'the optimizer; steps are counted in passes')
    prepare_processes(cfg, 'train', modes=('train', 'val'))
    with run_errors_reported():
        RUNNERS.build(cfg).train()
    leave_processes()
