# Copyright (c) mvp_mm authors. All rights reserved.
"""``mvp-mm export``."""
from __future__ import annotations

from pathlib import Path

import click

from mvp_mm.cli.command import Command, reported


@click.command(cls=Command)
@click.argument('checkpoint')
@click.option('--out', type=click.Path(path_type=Path), required=True, metavar='DIR',
              help='The new folder.')
@click.option('--config', metavar='CONFIG', help='[default: the one stored in the checkpoint]')
def export(checkpoint: str, out: Path, config: str | None) -> None:
    """Publish a trained model: one folder of safetensors, JSON and tokenizer files.

    The folder loads anywhere, without CHECKPOINT's config, and nothing in it is executed.

    \b
    Examples:
      mvp-mm export work_dirs/mine/best.pth --config data/mine/config.py --out my_model
      mvp-mm ask photo.jpg --words dog --weights my_model
    """
    with reported(OSError, ValueError):
        from mvp_mm import MVP
        MVP(checkpoint, device='cpu', config=config).save_pretrained(out)
    click.echo(f'written to {out}')
