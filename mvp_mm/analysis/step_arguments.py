# Copyright (c) mvp_mm authors. All rights reserved.
"""The options of tools that make up a training step: whose, and how large."""
from __future__ import annotations

import argparse

from mmengine.config import DictAction


def add_step_arguments(parser: argparse.ArgumentParser, config: str) -> None:
    """Add the config and the size of a step that random instructions are made for.

    Args:
        parser: The parser.
        config: What the help says of the config.
    """
    parser.add_argument('config', help=config)
    parser.add_argument('--images', type=int, default=8, help='images (default 8)')
    parser.add_argument('--sentences', type=int, default=2,
                        help='sentences per image, beside one word list (default 2)')
    parser.add_argument('--words', type=int, default=133,
                        help='names in the word list (default 133)')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={},
                        metavar='KEY=VALUE', help='settings to override')


def parse_step(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line; end with one line where a number of it is out of range."""
    args = parser.parse_args()
    for name in ('images', 'words'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} must be at least 1, got {getattr(args, name)}')
    if args.sentences < 0:
        parser.error(f'--sentences must not be negative, got {args.sentences}')
    return args
