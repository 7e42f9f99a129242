# Copyright (c) mvp_mm authors. All rights reserved.
"""``mvp-mm data``."""
from __future__ import annotations

from pathlib import Path

import click

from mvp_mm.cli.command import Command
from mvp_mm.utils.terminal import say_busy

# Keys of mvp_mm.own_data.formats.FORMATS, which would be slow to import for a list of names.
FORMATS = ('coco', 'yolo', 'labelme', 'voc', 'cvat', 'csv')


@click.command(cls=Command)
@click.argument('labels', type=click.Path(path_type=Path))
@click.option('--out', type=click.Path(path_type=Path), required=True, metavar='DIR',
              help='A new folder for what is written.')
@click.option('--images', type=click.Path(path_type=Path), metavar='DIR',
              help='Folder of the images, where the labels do not lie beside them.')
@click.option('--format', 'name', type=click.Choice(FORMATS), help='[default: recognised]')
@click.option('--base', default='tiny', show_default=True, metavar='CONFIG',
              help='What the config inherits: tiny, lora or full of configs/mvplm/finetune, or '
              'another config.')
@click.option('--val-share', type=click.FloatRange(0, 1, max_open=True), metavar='SHARE',
              help='Share of the images to validate on; 0 validates on the training images. Not '
              'for labels that name a split of their own.  [default: 0.2]')
@click.option('--seed', type=int, default=0, show_default=True,
              help='Draws the split and the pictures.')
def data(labels: Path, out: Path, images: Path | None, name: str | None, base: str,
         val_share: float | None, seed: int) -> None:
    """Turn labels of your own into files and a config that train.

    LABELS is a file or folder: COCO JSON, YOLO, LabelMe, Pascal VOC, CVAT or a CSV of expressions.
    Every label is checked; faults are told with file and record, and nothing is written then.

    \b
    Examples:
      mvp-mm data labels.json --images photos --out data/mine
      mvp-mm data yolo_export/ --out data/mine --base lora
      mvp-mm train data/mine/config.py
    """
    say_busy('loading PyTorch')
    from mvp_mm.cli.actions.data import prepare
    prepare(labels, out, images, name, base, val_share, seed)
