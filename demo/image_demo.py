# Copyright (c) mvp_mm authors. All rights reserved.
"""Ask a trained model about one image.

Examples::

    python demo/image_demo.py room.jpg --task panoptic --words chair,table,floor --weights w.pth
    python demo/image_demo.py room.jpg --task referring_segmentation --text "the left chair" \\
        --weights w.pth
"""
from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

from mmengine.config import Config
from mmengine.config.utils import ConfigParsingError
from pycocotools import mask as coco_mask

from mvp_mm.apis.images import read_image
from mvp_mm.apis.inferencer import PerceptionInferencer
from mvp_mm.apis.questions import build_task
from mvp_mm.apis.stored_config import config_of
from mvp_mm.engine import load_config
from mvp_mm.tasks import WordTask
from mvp_mm.utils.checkpoint_io import read_checkpoint


class _Parser(argparse.ArgumentParser):
    """Reports a wrong argument in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f'image_demo: {message}\n')


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = _Parser(description='Ask a trained model about one image.')
    parser.add_argument('image', type=Path, help='image file')
    parser.add_argument('--task', required=True,
                        help='name of a task in the config; a wrong one lists them')
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument('--words', help='phrases, separated by commas')
    asked.add_argument('--text', help='sentence')
    parser.add_argument('--stuff', metavar='WORDS',
                        help='those of --words that are stuff (grass, sky), separated by commas; '
                        'without it known class lists say, and other words are tried both ways')
    parser.add_argument('--weights', type=Path, required=True, help='checkpoint file')
    parser.add_argument('--config', type=Path, help='default: the one stored in the weights')
    parser.add_argument('--out-dir', type=Path, default=Path('outputs'))
    parser.add_argument('--thinking', action=argparse.BooleanOptionalAction, default=None,
                        help="let the LLM write a caption first; default: the config's")
    parser.add_argument('--score-thr', type=float, help='least score of an instance')
    parser.add_argument('--nms-iou', type=float,
                        help='box IoU above which repeated answers are removed')
    parser.add_argument('--device', help='default: cuda where there is one, else cpu')
    return parser.parse_args(argv)


def split_words(words: str | None, flag: str) -> list[str] | None:
    """The phrases of a comma-separated list.

    Raises:
        ValueError: If a phrase is empty or appears twice.
    """
    if words is None:
        return None
    phrases = [word.strip() for word in words.split(',')]
    if not all(phrases):
        raise ValueError(f'{flag} has an empty phrase: {words!r}')
    twice = sorted({phrase for phrase in phrases if phrases.count(phrase) > 1})
    if twice:
        raise ValueError(f'{flag} names {", ".join(twice)} more than once')
    return phrases


def read_config(args: argparse.Namespace) -> Config:
    """The config, read before the model is built.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the checkpoint stores no config.
    """
    if args.config is None:
        return config_of(read_checkpoint(args.weights), args.weights)
    for kind, path in (('config', args.config), ('weights', args.weights)):
        if not path.is_file():
            raise FileNotFoundError(f'No such {kind} file: {path}')
    return load_config(args.config)


def answer(args: argparse.Namespace) -> dict[str, Any]:
    """Ask the question; mistakes that can be found before the model is built come first.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If an image, checkpoint, task or question is wrong.
    """
    question: dict[str, Any] = dict(words=split_words(args.words, '--words'), text=args.text)
    stuff = split_words(args.stuff, '--stuff')
    if args.text is not None and not args.text.strip():
        raise ValueError('--text is empty')
    read_image(args.image)
    config = read_config(args)
    task = build_task(config, args.task)
    if stuff is not None:
        if not isinstance(task, WordTask):
            raise ValueError(f'Task {args.task} takes no --stuff')
        question['stuff'] = stuff
    task.ask(**question)
    inferencer = PerceptionInferencer(config, args.weights, args.device)
    result, = inferencer(args.image, args.task, **question, thinking=args.thinking,
                         score_thr=args.score_thr, nms_iou=args.nms_iou, out_dir=args.out_dir)
    return result


def report(result: dict[str, Any]) -> None:
    """Print the answer and where it was written."""
    if result['caption']:
        print(f"caption: {result['caption']}")
    for item in result['instances']:
        box = ', '.join(f'{side:.0f}' for side in item['bbox'])
        print(f"{item['label']}  {item['score']:.2f}  [{box}]")
    height, width = result['size']
    for segment in result.get('panoptic', result.get('semantic', ())):
        share = 100 * coco_mask.area(segment['segmentation']) / (height * width)
        score = f"  {segment['score']:.2f}" if 'score' in segment else ''
        print(f"{segment['label']}{score}  {share:.1f} % of the image")
    if not (result['instances'] or result.get('panoptic') or result.get('semantic')
            or result['caption']):
        print('nothing found')
    print(f"written: {result['files']['png']}, {result['files']['json']}")


def main(argv: list[str] | None = None) -> int:
    """Run the demo; 0, or 2 for a mistake of the caller."""
    args = parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            result = answer(args)
    except (OSError, ValueError, SyntaxError, ConfigParsingError) as error:
        message = ' '.join(str(error).split()) or type(error).__name__
        print(f'image_demo: {message}', file=sys.stderr)
        return 2
    report(result)
    return 0


if __name__ == '__main__':
    sys.exit(main())
