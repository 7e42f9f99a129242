# Copyright (c) mvp_mm authors. All rights reserved.
"""Make the synthetic world: images and annotations in the layouts of the real datasets.

Example::

    python tools/data/make_synthetic_world.py --out data/synthetic --train 6000 --val 300
"""
from __future__ import annotations

import argparse
import json
import sys

from mvp_mm.synthetic import WorldParameters, make_world


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', required=True, help='folder of the world')
    parser.add_argument('--train', type=int, default=6000, help='number of training images')
    parser.add_argument('--val', type=int, default=300, help='number of validation images')
    parser.add_argument('--seed', type=int, default=0, help='the same seed, the same world')
    parser.add_argument('--workers', type=int, default=1, help='processes; no effect on the result')
    parser.add_argument('--overwrite', action='store_true',
                        help='replace a world that was made with other parameters')
    return parser.parse_args()


def main() -> None:
    """Make the world."""
    args = parse_args()
    try:
        parameters = WorldParameters(seed=args.seed, train=args.train, val=args.val)
        world = make_world(args.out, parameters, workers=args.workers, overwrite=args.overwrite)
    except (FileExistsError, ValueError) as error:
        sys.exit(f'error: {error}')
    print(json.dumps(world, indent=1))


if __name__ == '__main__':
    main()
