# Copyright (c) mvp_mm authors. All rights reserved.
"""Time the answers of a model on the CPU: the start, a first question, further ones.

Times are processor time of one thread, the best of a few rounds, so that other work on the machine
changes them little. The start is that of a new Python process, from its first line to its first
answer.

Example::

    python tools/analysis_tools/benchmark_answers.py mvp_mm/weights/tiny photograph.jpg \\
        --words circle square grass --out work_dirs/answers.json
"""
from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from mvp_mm import MVP
from mvp_mm.analysis.results import write_result

_START = """
import sys, time
from mvp_mm import MVP
MVP(sys.argv[1], 'cpu')(sys.argv[2], words=sys.argv[3:], thinking=False)
print(time.process_time())
"""


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('model', help='checkpoint, published folder or name of the model zoo')
    parser.add_argument('image', type=Path, help='image file')
    parser.add_argument('--words', nargs='+', required=True, help='word list to ask for')
    parser.add_argument('--text', default='the red circle', help='sentence to ask')
    parser.add_argument('--sides', type=int, nargs='*', default=[],
                        help='also ask about the image squeezed to squares of these sides')
    parser.add_argument('--rounds', type=int, default=15, help='rounds (default 15)')
    parser.add_argument('--starts', type=int, default=2,
                        help='new Python processes (default 2; 0: none)')
    parser.add_argument('--accelerate', action='store_true', help='also with acceleration=True')
    parser.add_argument('--out', type=Path, help='result file to write')
    parser.add_argument('--before', type=Path, metavar='FILE',
                        help='result file of another commit, to be put beside these figures')
    args = parser.parse_args()
    for path in filter(None, (args.image, args.before)):
        if not path.is_file():
            sys.exit(f'benchmark_answers: error: no such file: {path}')
    if args.rounds < 1 or args.starts < 0:
        parser.error('--rounds must be at least 1, --starts at least 0')
    return args


def milliseconds(run: Callable[[], object], rounds: int) -> float:
    """Processor time of the fastest round behind two more."""
    taken = []
    for _ in range(rounds + 2):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return 1e3 * min(taken[2:])


def time_questions(model: MVP, image: Image.Image | str, args: argparse.Namespace) -> dict:
    """A word list and a sentence about an image, and about an image that is held."""
    picture, found = model.open(image), {}
    for name, question in (('words', dict(words=args.words)), ('sentence', dict(text=args.text))):
        first = milliseconds(partial(model, image, thinking=False, **question), args.rounds)
        later = milliseconds(partial(picture.ask, thinking=False, **question), args.rounds)
        found[name] = dict(first_ms=first, further_ms=later, times=first / later)
        print(f'  {name}: {first:.1f} ms, a further question {later:.1f} ms: '
              f'{first / later:.1f} x')
    return found


def time_start(args: argparse.Namespace) -> float:
    """Processor seconds of a new process to its first answer, the median."""
    environment = dict(os.environ, OMP_NUM_THREADS='1', MKL_NUM_THREADS='1')
    return statistics.median(float(subprocess.run(
        [sys.executable, '-c', _START, args.model, args.image, *args.words], check=True,
        stdout=subprocess.PIPE, text=True, env=environment).stdout) for _ in range(args.starts))


def main() -> None:
    """Time all parts."""
    args = parse_args()
    torch.set_num_threads(1)
    begin = time.perf_counter()
    figures: dict = {}
    with Image.open(args.image) as opened:
        image = opened.convert('RGB')
    for name, options in (('plain', {}), ('accelerated', dict(acceleration=True))):
        if options and not args.accelerate:
            continue
        model, found = MVP(args.model, 'cpu', **options), {}
        print(f'{name}, {image.width} x {image.height}')
        found['file'] = time_questions(model, str(args.image), args)
        for side in args.sides:
            print(f'{name}, {side} x {side}')
            found[str(side)] = time_questions(model, image.resize((side, side)), args)
        figures[name] = found
    if args.starts:
        figures['start_seconds'] = time_start(args)
        print(f'from the start of Python to the first answer: {figures["start_seconds"]:.1f} s')
    if args.out:
        settings: dict = dict(image_size=[image.height, image.width])
        if args.before:
            before = json.loads(args.before.read_text(encoding='utf-8'))
            figures['before'] = before.pop('figures')
            settings['before'] = before
        write_result(args.out, figures, settings=settings, seconds=time.perf_counter() - begin)


if __name__ == '__main__':
    main()
