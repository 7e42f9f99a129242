# Copyright (c) mvp_mm authors. All rights reserved.
"""Options that several commands take."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from mvp_mm.cli.command import ManyValues


def check_pairs(ctx: click.Context, param: click.Parameter,
                 pairs: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse values that are no pairs ``KEY=VALUE``."""
    for pair in pairs:
        if not pair.partition('=')[1] or pair.startswith('='):
            raise click.BadParameter(f'{pair!r} is not KEY=VALUE')
    return pairs


cfg_options = click.option(
    '--cfg-options', cls=ManyValues, metavar='KEY=VALUE...', callback=check_pairs,
    help='Override settings of the config, such as optim_wrapper.optimizer.lr=1e-4; lists as '
    'key="[a,b]" or key=a,b.')

# The rule of mvp_mm.utils.named_weights, for the help of every option that takes weights.
WEIGHTS_HELP = 'A checkpoint, a published folder, or a name of the model zoo.'

_RUN = (
    click.option('--work-dir', metavar='DIR', help='Folder of logs and results.  '
                 '[default: its place below configs/mvplm, in work_dirs]'),
    cfg_options,
    click.option('--launcher', type=click.Choice(['none', 'pytorch', 'slurm', 'mpi']),
                 default='none', show_default=True, help='What starts the processes.'),
    click.option('--local_rank', '--local-rank', type=int, default=0, hidden=True))


def run_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what training and test have in common."""
    for option in reversed(_RUN):
        function = option(function)
    return function


def parse_pairs(pairs: tuple[str, ...]) -> dict[str, Any] | None:
    """Parse the values of ``--cfg-options`` as mmengine does; None where there are none."""
    import argparse

    from mmengine.config import DictAction

    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_args(['--cfg-options', *pairs] if pairs else []).cfg_options


def split_words(ctx: click.Context, param: click.Parameter,
                value: str | None) -> list[str] | None:
    """Split a comma-separated list of phrases.

    Raises:
        click.BadParameter: If a phrase is empty or appears twice.
    """
    if value is None:
        return None
    phrases = [phrase.strip() for phrase in value.split(',')]
    if not all(phrases):
        raise click.BadParameter(f'{value!r} has an empty phrase')
    twice = sorted({phrase for phrase in phrases if phrases.count(phrase) > 1})
    if twice:
        raise click.BadParameter(f'names {", ".join(twice)} more than once')
    return phrases
