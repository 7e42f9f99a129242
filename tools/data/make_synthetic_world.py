# Copyright (c) mvp_mm authors. All rights reserved.
"""Make the synthetic world: images and annotations in the layouts of the real datasets.

Example::

    python tools/data/make_synthetic_world.py --out data/synthetic --train 6000 --val 300
"""
from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

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
    parser.add_argument('--at-least', action='store_true',
                        help='keep a finished world of this seed that has as many images or more; '
                        'make a smaller one larger, which keeps its images')
    return parser.parse_args()


def at_least(out: Path, wanted: WorldParameters) -> tuple[WorldParameters, bool]:
    """Give the parameters that hold both a finished world and a wanted one.

    Returns:
        The parameters, and whether the world that is there is to be replaced by a larger one.
    """
    note = out / 'world.json'
    found = json.loads(note.read_text()) if note.is_file() else {}
    if not found.get('complete'):
        return wanted, False
    there = WorldParameters(**found['parameters'])
    if (there.seed, there.version) != (wanted.seed, wanted.version):
        return wanted, False
    both = replace(wanted, train=max(there.train, wanted.train), val=max(there.val, wanted.val))
    return both, both != there


def main() -> None:
    """Make the world."""
    args = parse_args()
    try:
        parameters = WorldParameters(seed=args.seed, train=args.train, val=args.val)
        overwrite = args.overwrite
        if args.at_least:
            parameters, larger = at_least(Path(args.out), parameters)
            overwrite = overwrite or larger
        world = make_world(args.out, parameters, workers=args.workers, overwrite=overwrite)
    except (FileExistsError, ValueError) as error:
        sys.exit(f'error: {error}')
    print(json.dumps(world, indent=1))


if __name__ == '__main__':
    main()
