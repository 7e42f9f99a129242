# Copyright (c) mvp_mm authors. All rights reserved.
"""``mvp-mm serve``."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mvp_mm.cli.command import Command, ManyValues, reported
from mvp_mm.cli.options import check_pairs


@click.command(cls=Command)
@click.argument('source', metavar='MODEL')
@click.option('--host', default='127.0.0.1', show_default=True,
              help='Address to listen on; the default is reached from this computer alone.')
@click.option('--port', type=click.IntRange(0, 65535), default=7860, show_default=True,
              help='Port to listen on; 0 for any free one.')
@click.option('--device', help='[default: cuda where there is one, else cpu]')
@click.option('--config', metavar='CONFIG', help='[default: the one stored in the weights]')
@click.option('--dtype', help='Type of the weights, such as bfloat16.')
@click.option('--accelerate', 'acceleration', is_flag=True,
              help='Replay the model as CUDA graphs, its weights held in --dtype.')
@click.option('--page/--no-page', default=True, help='Show a page, or answer POST /predict alone.')
@click.option('--examples', type=click.Path(path_type=Path), metavar='DIR',
              help='Pictures that the page offers.')
@click.option('--allow-host', 'hosts', multiple=True, metavar='NAME',
              help='A name by which requests may address the server; may be repeated.')
@click.option('--trust-proxy', 'trusted_proxies', multiple=True, metavar='ADDRESS',
              help='A proxy whose X-Forwarded-For is believed; may be repeated.')
@click.option('--root-path', default='', metavar='PATH', help='Path under which a proxy shows it.')
@click.option('--limits', cls=ManyValues, metavar='NAME=NUMBER...', callback=check_pairs,
              help='Limits, such as max_batch=4 requests_per_minute=60; a wrong name lists them.')
def serve(source: str, host: str, port: int, device: str | None, limits: tuple[str, ...],
          **options: Any) -> None:
    """Serve MODEL: a page at / and POST /predict.

    MODEL is a checkpoint, a published folder, or a name of the model zoo.

    \b
    Examples:
      mvp-mm serve my_model
      mvp-mm serve CHECKPOINT --config CONFIG --port 8000 --no-page --limits max_batch=4
    """
    with reported(ImportError, OSError, ValueError):
        from mvp_mm.serving import launch
        launch(source, host, port, device, **options, **dict(map(_limit, limits)))


def _limit(pair: str) -> tuple[str, int | float]:
    name, _, value = pair.partition('=')
    try:
        return name, int(value)
    except ValueError:
        pass
    try:
        return name, float(value)
    except ValueError:
        raise click.BadParameter(f'{pair!r} is not NAME=NUMBER', param_hint="'--limits'") from None
