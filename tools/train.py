# Copyright (c) mvp_mm authors. All rights reserved.
"""Train a model from a config."""
from __future__ import annotations

import argparse
import sys

import torch
from mmengine.config import Config

from mvp_mm.engine.batching import count_processes, is_first_process, spread_batch
from mvp_mm.engine.config_check import check_config
from mvp_mm.engine.config_error import ConfigError
from mvp_mm.engine.config_guards import missing_guards
from mvp_mm.engine.latest_checkpoint import find_resumable
from mvp_mm.engine.launch import (
    add_common_arguments,
    config_errors_in_one_line,
    config_from_args,
    prepare_processes,
    run_errors_in_one_line,
)
from mvp_mm.registry import RUNNERS


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Train a model')
    parser.add_argument('config', help='config file')
    parser.add_argument('--amp', action='store_true',
                        help='train in float16 with a scaled loss, for GPUs without bfloat16')
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        '--resume', nargs='?', const='auto', metavar='CHECKPOINT',
        help='continue from this checkpoint; without a name (or with auto) from the newest in the '
        'work folder, or from the start if there is none')
    start.add_argument(
        '--load-from', metavar='CHECKPOINT',
        help='start from the weights of an earlier stage or, for fine-tuning, of a trained model; '
        'overrides load_from of the config')
    add_common_arguments(parser)
    return parser.parse_args()


def apply_start(cfg: Config, resume: str | None, load_from: str | None) -> None:
    """Set what the run starts from.

    Args:
        cfg (Config): The config to change.
        resume (str, optional): A checkpoint to continue, or 'auto'.
        load_from (str, optional): A checkpoint whose weights to start from.
    """
    if load_from is not None:
        cfg.load_from = load_from
    if resume is None and cfg.get('resume') and not cfg.get('load_from'):
        resume = 'auto'
    if resume == 'auto':
        # Found here, not by the Runner: it would believe last_checkpoint, or resume from the
        # config's load_from instead.
        first = is_first_process(cfg.get('launcher', 'none'))
        latest = find_resumable(cfg.work_dir, print if first else lambda line: None)
        if latest is None:
            print(f'--resume auto: no checkpoint in {cfg.work_dir}, starting from the beginning')
            cfg.resume = False
        resume = latest
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


def main() -> None:
    """Train."""
    args = parse_args()
    with config_errors_in_one_line('train'):
        cfg = config_from_args(args)
        if args.amp:
            use_float16(cfg)
        apply_start(cfg, args.resume, args.load_from)
        check_config(cfg, modes=('train', 'val'))
        processes = count_processes(args.launcher)
        passes = spread_batch(cfg, processes)
    if is_first_process(args.launcher):
        for guard in missing_guards(cfg):
            print(f'train: note: {guard}', file=sys.stderr)
    if cfg.get('total_batch_size') is not None and is_first_process(args.launcher):
        print(f'total_batch_size={cfg.total_batch_size}: {processes} processes with '
              f'{cfg.train_dataloader.batch_size} images each, {passes} forward passes a step of '
              f'the optimizer; steps are counted in passes')
    prepare_processes(cfg)
    with run_errors_in_one_line('train'):
        RUNNERS.build(cfg).train()


if __name__ == '__main__':
    main()
