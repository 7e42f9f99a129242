# Copyright (c) mvp_mm authors. All rights reserved.
"""``mvp-mm browse``."""
from __future__ import annotations

from pathlib import Path

import click

from mvp_mm.cli.command import Command
from mvp_mm.cli.options import cfg_options, parse_pairs
from mvp_mm.utils.terminal import say_busy


@click.command(cls=Command)
@click.argument('config')
@click.option('--out', type=click.Path(path_type=Path), required=True, metavar='DIR',
              help='Folder for the pictures.')
@click.option('--mode', type=click.Choice(['train', 'val', 'test']), default='train',
              show_default=True, help='Which data loaders of the config.')
@click.option('--number', type=click.IntRange(min=1), default=6, show_default=True,
              help='Images of each dataset.')
@click.option('--per-image', type=click.IntRange(min=1), default=3, show_default=True,
              help='Instructions of each image.')
@click.option('--columns', type=click.IntRange(min=1), default=3, show_default=True,
              help='Pictures side by side on a sheet.')
@click.option('--seed', type=int, default=0, show_default=True,
              help='Draws the images and every choice.')
@cfg_options
def browse(config: str, out: Path, mode: str, cfg_options: tuple[str, ...],
           **counts: int) -> None:
    """Draw what the model gets to see: samples with their targets and full instruction.

    Every picture comes out of the data pipeline of CONFIG: the image as the network takes it, the
    masks and boxes of each instruction, and the text that the LLM reads and learns to write,
    decoded from its tokens, with every phrase on its own colour.

    \b
    Examples:
      mvp-mm browse data/mine/config.py --out pictures
      mvp-mm browse configs/mvplm/tiny/stage2.py --out pictures --mode test --number 12
    """
    say_busy('loading PyTorch')
    from mvp_mm.cli.actions.browse import browse_datasets
    browse_datasets(config, out, mode, parse_pairs(cfg_options), **counts)
