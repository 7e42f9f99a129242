# Copyright (c) mvp_mm authors. All rights reserved.
"""``mvp-mm check``."""
from __future__ import annotations

from pathlib import Path

import click

from mvp_mm.cli.command import Command
from mvp_mm.utils.terminal import say_busy


@click.command(cls=Command)
@click.argument('source', type=click.Path(exists=True, path_type=Path))
@click.option('--format', 'name', metavar='NAME',
              help='For a folder: name of a dataset of configs/_base_/datasets.py.')
@click.option('--dataset', metavar='NAME',
              help='For a config: name, or dotted path, of the datasets to check.')
@click.option('--data-root', metavar='DIR',
              help='For a config: folder that takes the place of its own.')
@click.option('--workers', type=click.IntRange(min=0), default=0, show_default=True,
              help='Processes that check files.')
@click.option('--examples', type=click.IntRange(min=0), default=5, show_default=True,
              help='Faults shown of each kind.')
@click.option('--out', type=click.Path(path_type=Path), metavar='FILE',
              help='JSON file for the report with every fault.')
def check(source: Path, name: str | None, dataset: str | None, data_root: str | None,
          workers: int, examples: int, out: Path | None) -> int:
    """Verify datasets: records, boxes, masks, maps and image files.

    SOURCE is a config, or the folder of a dataset. The exit code is 1 where there are faults.

    \b
    Examples:
      mvp-mm check data/mine/config.py
      mvp-mm check configs/mvplm/stage2.py --dataset refcoco_train
      mvp-mm check data/coco --format coco_panoptic_train --workers 8
    """
    if source.is_dir() and (dataset or data_root):
        raise click.UsageError('--dataset and --data-root go with a config, not with a folder')
    if source.is_file() and name:
        raise click.UsageError('--format goes with a folder, not with a config')
    say_busy('loading PyTorch')
    from mvp_mm.cli.actions.check import check_datasets
    return check_datasets(source, name, dataset, data_root, workers, examples, out)
