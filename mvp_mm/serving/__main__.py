# Copyright (c) mvp_mm authors. All rights reserved.
"""Serve a model: ``python -m mvp_mm.serving SOURCE``."""
from __future__ import annotations

import argparse
import sys
from dataclasses import fields

from mvp_mm.serving.launch import launch
from mvp_mm.serving.limits import Limits


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`~mvp_mm.serving.launch` to a parser."""
    parser.add_argument('source', help='checkpoint, published folder or name of the model zoo')
    parser.add_argument('--host', default='127.0.0.1', help='address to listen on (%(default)s)')
    parser.add_argument('--port', type=int, default=7860, help='0 for a free one (%(default)s)')
    parser.add_argument('--device', help='such as cpu or cuda:1 (CUDA where there is one)')
    parser.add_argument('--config', help='config of a checkpoint that stores none')
    parser.add_argument('--dtype', help='type of the weights, such as bfloat16')
    parser.add_argument('--accelerate', dest='acceleration', action='store_true',
                        help='replay the model as CUDA graphs, its weights held in DTYPE')
    parser.add_argument('--no-page', dest='page', action='store_false', help='POST /predict only')
    parser.add_argument('--examples', metavar='FOLDER', help='pictures that the page offers')
    parser.add_argument('--allow-host', dest='hosts', action='append', default=[], metavar='NAME',
                        help='name by which requests may address the server; may be repeated')
    parser.add_argument('--trust-proxy', dest='trusted_proxies', action='append', default=[],
                        metavar='ADDRESS', help='proxy whose X-Forwarded-For is believed')
    parser.add_argument('--root-path', default='', help='path under which a proxy shows it')
    group = parser.add_argument_group('limits')
    for limit in fields(Limits):
        group.add_argument(
            '--' + limit.name.replace('_', '-'), dest=limit.name, metavar='N',
            type=int if limit.type == 'int' else float,
            help=f'{limit.metadata["what"]} ({limit.default:g})'.replace('%', '%%'))


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to stop; faults of the user take one line."""
    parser = argparse.ArgumentParser(prog='python -m mvp_mm.serving', description=__doc__)
    add_arguments(parser)
    options = vars(parser.parse_args(arguments))
    for name in ('hosts', 'trusted_proxies'):
        options[name] = tuple(options[name])
    try:
        launch(options.pop('source'), **options)
    except (ImportError, OSError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
