# Copyright (c) mvp_mm authors. All rights reserved.
"""Ask a trained model about all images of a folder or a dataset, into one JSON line per image.

A run that was killed goes on where it stopped. For a few images and their pictures there is
``mvp-mm ask``. Exit code 1 where an image is left without an answer.

Examples::

    python tools/answer_images.py --images data/photos --out answers --name people \
        --weights work_dirs/stage2/iter_80000.pth --words person,dog --shard 0/4
    python tools/answer_images.py --images data/photos --out answers --name people \
        --weights work_dirs/stage2/iter_80000.pth --words person,dog --device cuda \
        --batch-size 8 --ray-shards 512 --ray-actors 8 --ray-gpus 1
"""
from __future__ import annotations

import argparse
import sys

from mvp_mm.captioning.backends import CaptionerError
from mvp_mm.captioning.jobs import AnswerJob, make_parser
from mvp_mm.captioning.ray_shards import work_on_shards


def words_of(text: str) -> list[str]:
    """Split words at commas."""
    return [word.strip() for word in text.split(',')]


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__.splitlines()[0], 'folder of the answers, of all questions',
                         'ask again about images that could not be read')
    parser.add_argument('--name', required=True, help='name of the question in that folder')
    parser.add_argument('--weights', required=True,
                        help='a published folder, a checkpoint, or a name of the model zoo')
    question = parser.add_mutually_exclusive_group()
    question.add_argument('--words', type=words_of, help='phrases to look for, by commas')
    question.add_argument('--text', nargs='+', help='sentences that mean objects')
    parser.add_argument('--stuff', type=words_of, help='those of --words that are stuff')
    parser.add_argument('--task', help='name of a task of the model; default: by the question')
    parser.add_argument('--thinking', action=argparse.BooleanOptionalAction,
                        help="let the LLM write a caption first; default: the model's")
    parser.add_argument('--threshold', type=float, help='least score of an answer')
    parser.add_argument('--device', help='default: cuda where there is one, else cpu')
    parser.add_argument('--batch-size', type=int, help='images of a forward pass; default: 8 for a '
                        'small model on a CPU, else 1')
    parser.add_argument('--workers', type=int, help='processes on a CPU, each with a batch; '
                        'default: one per core for a small model, else 1')
    args = parser.parse_args()
    if not (args.words or args.text or args.task):
        parser.error('ask with --words or --text, or name a --task that needs neither')
    for name in ('batch_size', 'workers'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1')
    return args


def main() -> None:
    """Answer."""
    args = parse_args()
    try:
        report = work_on_shards(args, AnswerJob(args))
    except (OSError, ValueError, CaptionerError) as error:
        sys.exit(f'error: {error}')
    print(f'{report.images} images: {report.before} answered before, {report.captioned} now, '
          f'{len(report.failed)} cannot be')
    for image, error in sorted(report.failed.items())[:5]:
        print(f'  {image}: {error}')
    if not report.complete:
        sys.exit(1)


if __name__ == '__main__':
    main()
