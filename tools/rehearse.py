# Copyright (c) mvp_mm authors. All rights reserved.
"""Rehearse a full-size project in miniature: type its commands, from stage 1 to the paper's tables.

Data and public weights are fabricated, with their real names and layouts; the model is small, all
else is as at full size. See docs/how_to/rehearsal.md.

Examples::

    python tools/rehearse.py
    python tools/rehearse.py --list
    python tools/rehearse.py --data /disk/data --llm checkpoints/phi-1_5
"""
from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from mvp_mm.rehearsal.own_data import on_own_data
from mvp_mm.rehearsal.place import make_place
from mvp_mm.rehearsal.plan import phases
from mvp_mm.rehearsal.run import rehearse, summary


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--place', type=Path, default=Path('work_dirs/rehearsal'),
                        help='folder to work in, new or empty; default %(default)s')
    parser.add_argument('--data', type=Path, help='your own folder of datasets (coco/, refer/, …): '
                        'those that it has take the place of the fabricated ones')
    parser.add_argument('--llm', type=Path, help='your own folder of Phi-1.5: its tokenizer takes '
                        'the place of the fabricated one')
    parser.add_argument('--list', action='store_true', help='print the commands and stop')
    return parser.parse_args()


def main() -> None:
    """Rehearse."""
    args = parse_args()
    plan = phases()
    if args.list:
        print('\n'.join(' '.join(step.words) for both in plan for steps in both for step in steps))
        return
    if args.place.exists() and any(args.place.iterdir()):
        sys.exit(f'rehearse: error: {args.place} is not empty; remove it or give another --place')
    for path in filter(None, (args.data, args.llm)):
        if not path.is_dir():
            sys.exit(f'rehearse: error: no such folder: {path}')
    start, screen = time.monotonic(), sys.stdout
    torch.set_num_threads(1)    # two or three processes share the cores
    try:
        own = make_place(args.place.resolve(), args.data, args.llm)
    except FileNotFoundError as error:
        sys.exit(f'rehearse: error: {error}')
    print(f'yours: {", ".join(own) or "nothing"}; everything else below data/ is fabricated')
    outcomes = rehearse(args.place.resolve(), on_own_data(plan, own),
                        lambda line: print(line, file=screen, flush=True))
    print(f'\n{summary(outcomes)}\n{time.monotonic() - start:.0f} s in {args.place}')
    if any(outcome.error for outcome in outcomes):
        sys.exit(1)


if __name__ == '__main__':
    main()
