# Copyright (c) mvp_mm authors. All rights reserved.
"""Write captions with errors for the training images of a synthetic world.

The file is a caption store. Every image gets one caption: the list of its things with a share of
the mentions swapped, negated or accompanied by invented objects, or the list of another image.
With ``--rate 0`` it is the true list.

Example::

    python tools/data/make_wrong_captions.py data/synthetic --error swapped --rate 0.5
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from mvp_mm.synthetic.caption_errors import ERRORS, wrong_captions
from mvp_mm.synthetic.known_scenes import KnownScenes
from mvp_mm.utils.atomic import write_text


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('world', type=Path, help='folder of the synthetic world')
    parser.add_argument('--error', required=True, choices=[*ERRORS, 'shuffled'])
    parser.add_argument('--rate', type=float, default=1.0,
                        help='share of the mentions that get the error')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path,
                        help='default WORLD/captions/train_<error>_<rate in percent>.json')
    return parser.parse_args()


def main() -> None:
    """Write the captions."""
    args = parse_args()
    out = args.out or args.world / 'captions' / f'train_{args.error}_{args.rate * 100:.0f}.json'
    try:
        scenes = KnownScenes(args.world)
        captions = wrong_captions(scenes, range(1, scenes.parameters.train + 1), args.error,
                                  args.rate, args.seed)
        content = dict(captioners=['lister'], captions={
            f'{number:012d}.jpg': [caption] for number, caption in captions.items()})
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, json.dumps(content) + '\n')
    except (OSError, ValueError) as error:
        sys.exit(f'make_wrong_captions: error: {error}')
    print(f'{len(captions)} captions in {out}')


if __name__ == '__main__':
    main()
