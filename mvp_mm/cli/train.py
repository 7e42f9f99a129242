# Copyright (c) mvp_mm authors. All rights reserved.
"""``mvp-mm train``."""
from __future__ import annotations

from typing import Any

import click

from mvp_mm.cli.command import Command
from mvp_mm.cli.options import WEIGHTS_HELP, parse_pairs, run_options
from mvp_mm.utils.terminal import say_busy


@click.command(cls=Command)
@click.argument('config')
@click.option('--amp', is_flag=True,
              help='Train in float16 with a scaled loss, for GPUs without bfloat16.')
@click.option('--resume', is_flag=False, flag_value='auto', metavar='[CHECKPOINT]',
              help='Continue from this checkpoint; without a name (or with auto) from the newest '
              'in the work folder, or from the start if there is none.')
@click.option('--load-from', metavar='CHECKPOINT',
              help='Start from the weights of an earlier stage or, for fine-tuning, of a trained '
              f'model; overrides load_from of the config.  {WEIGHTS_HELP}')
@run_options
def train(config: str, amp: bool, resume: str | None, load_from: str | None,
          cfg_options: tuple[str, ...], **run: Any) -> None:
    """Train a model from CONFIG, a file or the name of a shipped one.

    \b
    Examples:
      mvp-mm train data/mine/config.py --load-from CHECKPOINT
      mvp-mm train configs/mvplm/tiny/stage2.py --cfg-options train_cfg.max_iters=100
      mvp-mm train configs/mvplm/tiny/stage2.py --resume
    """
    if resume is not None and load_from is not None:
        raise click.UsageError('--resume and --load-from exclude each other')
    say_busy('loading PyTorch')
    from mvp_mm.cli.actions.train import train_model
    train_model(config, amp, resume, load_from, cfg_options=parse_pairs(cfg_options), **run)
