# Copyright (c) mvp_mm authors. All rights reserved.
"""Ask a trained model about one image; the same as ``MVP`` in Python, with every flag in sight.

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

from mvp_mm.apis import MVP, Answer
from mvp_mm.apis.images import read_image
from mvp_mm.apis.mvp import NMS_IOU
from mvp_mm.apis.questions import build_task
from mvp_mm.apis.stored_config import config_of
from mvp_mm.engine import load_config
from mvp_mm.tasks import WordTask
from mvp_mm.utils.checkpoint_io import read_checkpoint
from mvp_mm.utils.named_weights import find_weights


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
    parser.add_argument('--weights', required=True,
                        help='checkpoint, published folder or name of the model zoo')
    parser.add_argument('--config', type=Path, help='default: the one stored in the weights')
    parser.add_argument('--out-dir', type=Path, default=Path('outputs'))
    parser.add_argument('--thinking', action=argparse.BooleanOptionalAction, default=None,
                        help="let the LLM write a caption first; default: the config's")
    parser.add_argument('--score-thr', type=float, help='least score of an instance')
    parser.add_argument('--nms-iou', type=float, default=NMS_IOU,
                        help='box IoU above which repeated answers are removed; 1 keeps all '
                        '(default: %(default)s)')
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


def read_config(args: argparse.Namespace) -> Config | None:
    """The config, read before the model is built; None for a published folder, which has its own.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the checkpoint stores no config.
    """
    weights = find_weights(args.weights)
    if args.config is not None:
        if not args.config.is_file():
            raise FileNotFoundError(f'No such config file: {args.config}')
        return load_config(args.config)
    return None if weights.is_dir() else config_of(read_checkpoint(weights), weights)


def check_question(config: Config, task: str, question: dict[str, Any]) -> None:
    """Refuse a question that the task cannot be asked.

    Raises:
        ValueError: If it cannot.
    """
    asker = build_task(config, task)
    asked = dict(question)
    if asked.pop('stuff') is not None and not isinstance(asker, WordTask):
        raise ValueError(f'Task {task} takes no --stuff')
    if isinstance(asker, WordTask):
        asked = question
    asker.ask(**asked)


def answer(args: argparse.Namespace) -> tuple[Answer, list[Path]]:
    """Ask the question; mistakes that can be found before the model is built come first.

    Returns:
        The answer, and the files written.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If an image, checkpoint, task or question is wrong.
    """
    question: dict[str, Any] = dict(words=split_words(args.words, '--words'), text=args.text,
                                    stuff=split_words(args.stuff, '--stuff'))
    if args.text is not None and not args.text.strip():
        raise ValueError('--text is empty')
    read_image(args.image)
    config = read_config(args)
    if config is not None:
        check_question(config, args.task, question)
    model = MVP(args.weights, args.device, config)
    found = model.open(args.image).ask(
        **question, task=args.task, thinking=args.thinking, threshold=args.score_thr,
        nms_iou=args.nms_iou)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    return found, found.save(args.out_dir)


def report(found: Answer, files: list[Path]) -> None:
    """Print the answer and where it was written."""
    if found.caption:
        print(f'caption: {found.caption}')
    for index, item in enumerate(found.to_dict()['objects']):
        score = '' if item['score'] is None else f'  {item["score"]:.2f}'
        if found.segments is None:
            place = f'[{", ".join(f"{side:.0f}" for side in item["bbox"])}]'
        else:
            share = float((found.segment_map == found.segment_info[index]['id']).mean())
            place = f'{100 * share:.1f} % of the image'
        print(f'{item["label"]}{score}  {place}')
    if not (len(found) or found.caption):
        print('nothing found')
    print(f'written: {", ".join(map(str, files))}')


def main(argv: list[str] | None = None) -> int:
    """Run the demo; 0, or 2 for a mistake of the caller."""
    args = parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            found, files = answer(args)
    except (OSError, ValueError, SyntaxError, ConfigParsingError) as error:
        message = ' '.join(str(error).split()) or type(error).__name__
        print(f'image_demo: {message}', file=sys.stderr)
        return 2
    report(found, files)
    return 0


if __name__ == '__main__':
    sys.exit(main())
