# Copyright (c) mvp_mm authors. All rights reserved.
"""``mvp-mm test``."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mvp_mm.cli.command import Command
from mvp_mm.cli.options import parse_pairs, run_options
from mvp_mm.utils.terminal import say_busy


@click.command(cls=Command)
@click.argument('config')
@click.argument('checkpoint')
@click.option('--out', metavar='DIR',
              help='Also save all predictions, in the formats of docs/reference/evaluation.md; '
              'several datasets get one subfolder each.')
@click.option('--show-dir', metavar='DIR', help='Write pictures of the predictions here.')
@click.option('--metrics-file', type=click.Path(path_type=Path),
              help='Where to write the metrics. Beside it *.source.json names config and '
              'checkpoint.  [default: <work folder>/metrics.json]')
@click.option('--overwrite', is_flag=True,
              help='Replace metrics of another config or checkpoint.')
@run_options
def test(config: str, checkpoint: str, out: str | None, show_dir: str | None,
         metrics_file: Path | None, overwrite: bool, cfg_options: tuple[str, ...],
         **run: Any) -> None:
    """Test CHECKPOINT with the datasets and metrics of CONFIG.

    CHECKPOINT is a checkpoint, a published folder, or a name of the model zoo.

    \b
    Examples:
      mvp-mm test data/mine/config.py work_dirs/mine/best.pth
      mvp-mm test configs/mvplm/tiny/pretrained.py tiny
      mvp-mm test CONFIG CHECKPOINT --show-dir pictures --out predictions
    """
    say_busy('loading PyTorch')
    from mvp_mm.cli.actions.test import evaluate
    evaluate(config, checkpoint, out, show_dir, metrics_file, overwrite,
             cfg_options=parse_pairs(cfg_options), **run)
