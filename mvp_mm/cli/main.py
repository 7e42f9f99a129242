# Copyright (c) mvp_mm authors. All rights reserved.
"""The entry point: all commands under one name."""
from __future__ import annotations

import sys

import click

from mvp_mm.cli.ask import ask
from mvp_mm.cli.browse import browse
from mvp_mm.cli.check import check
from mvp_mm.cli.command import run
from mvp_mm.cli.convert import convert
from mvp_mm.cli.data import data
from mvp_mm.cli.export import export
from mvp_mm.cli.serve import serve
from mvp_mm.cli.test import test
from mvp_mm.cli.train import train
from mvp_mm.version import __version__


class InOrder(click.Group):
    """Lists its commands in the order in which somebody needs them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names as they were added."""
        return list(self.commands)


@click.group(cls=InOrder, context_settings=dict(help_option_names=['-h', '--help']))
@click.version_option(__version__, prog_name='mvp_mm')
def cli() -> None:
    """Boxes and masks from words and sentences: ask, train and test models.

    \b
    Examples:
      mvp-mm ask photo.jpg --words "dog,ball" --weights CHECKPOINT
      mvp-mm data labels/ --out data/mine
      mvp-mm train data/mine/config.py

    Exit codes: 0 done, 1 faults found or the run failed, 2 wrong usage or bad input, 75 preempted
    (go on with --resume), 130 interrupted.
    """


for command in (ask, data, train, test, check, browse, convert, export, serve):
    cli.add_command(command)


def main() -> None:
    """Run ``mvp-mm`` with the arguments of the process."""
    sys.exit(run(cli, 'mvp-mm'))
