# Copyright (c) mvp_mm authors. All rights reserved.
"""``mvp-mm export``."""
from __future__ import annotations

from pathlib import Path

import click

from mvp_mm.cli.command import Command, reported
from mvp_mm.utils.terminal import say_busy


@click.command(cls=Command)
@click.argument('checkpoint')
@click.option('--out', type=click.Path(path_type=Path), required=True, metavar='DIR',
              help='The new folder.')
@click.option('--config', metavar='CONFIG', help='[default: the one stored in the checkpoint]')
@click.option('--onnx', is_flag=True,
              help='Write ONNX graphs of all but the LLM too, into DIR/onnx, and compare them.')
def export(checkpoint: str, out: Path, config: str | None, onnx: bool) -> None:
    """Publish a trained model: one folder of safetensors, JSON and tokenizer files.

    CHECKPOINT is a checkpoint, a published folder, or a name of the model zoo. The folder loads
    anywhere, without CHECKPOINT's config, and nothing in it is executed.

    \b
    Examples:
      mvp-mm export work_dirs/mine/best.pth --config data/mine/config.py --out my_model
      mvp-mm ask photo.jpg --words dog --weights my_model
      mvp-mm export CHECKPOINT --out my_model --onnx
    """
    with reported(OSError, ValueError, ImportError):
        from mvp_mm.utils.named_weights import find_weights
        find_weights(checkpoint)
        say_busy('loading PyTorch and the model')
        from mvp_mm import MVP
        model = MVP(checkpoint, device='cpu', config=config)
        model.save_pretrained(out)
        if onnx:
            for name, value in model.export_onnx(out / 'onnx').items():
                click.echo(f'{name}: differs from the model by at most {value:.1e}')
    click.echo(f'written to {out}')
