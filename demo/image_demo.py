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
from pycocotools import mask as coco_mask

from mvp_mm.apis.inferencer import PerceptionInferencer, build_task, read_image
from mvp_mm.apis.stored_config import config_of, read_checkpoint
from mvp_mm.engine import load_config


class _Parser(argparse.ArgumentParser):
    """Reports a wrong argument in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f'image_demo: {message}\n')


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = _Parser(description='Ask a trained model about one image.')
    parser.add_argument('image', type=Path, help='image file')
    parser.add_argument('--task', required=True, help='name of a task in the config')
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument('--words', help='phrases, separated by commas')
    asked.add_argument('--text', help='sentence')
    parser.add_argument('--weights', type=Path, required=True, help='checkpoint file')
    parser.add_argument('--config', type=Path, help='default: the one stored in the weights')
    parser.add_argument('--out-dir', type=Path, default=Path('outputs'))
    parser.add_argument('--no-thinking', action='store_true', help='perceive without a caption')
    parser.add_argument('--score-thr', type=float, help='least score of an instance')
    parser.add_argument('--device', help='default: cuda where there is one, else cpu')
    return parser.parse_args(argv)


def split_words(words: str | None) -> list[str] | None:
    """The phrases of a comma-separated list.

    Raises:
        ValueError: If a phrase is empty or appears twice.
    """
    if words is None:
        return None
    phrases = [word.strip() for word in words.split(',')]
    if not all(phrases):
        raise ValueError(f'--words has an empty phrase: {words!r}')
    twice = sorted({phrase for phrase in phrases if phrases.count(phrase) > 1})
    if twice:
        raise ValueError(f'--words names {", ".join(twice)} more than once')
    return phrases


def check(args: argparse.Namespace) -> tuple[Config, list[str] | None]:
    """Find every mistake that can be found before the model is built.

    Returns:
        The config and the phrases.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If an image, checkpoint, task or question is wrong.
    """
    words = split_words(args.words)
    if args.text is not None and not args.text.strip():
        raise ValueError('--text is empty')
    read_image(args.image)
    if args.config is None:
        config = config_of(read_checkpoint(args.weights), f'{args.weights} (see --config)')
    elif not args.config.is_file():
        raise FileNotFoundError(f'No such config file: {args.config}')
    else:
        config = load_config(args.config)
    if not args.weights.is_file():
        raise FileNotFoundError(f'No such weights file: {args.weights}')
    build_task(config, args.task).ask(words=words, text=args.text)
    return config, words


def report(result: dict[str, Any], out_dir: Path) -> None:
    """Print the answer and where it was written."""
    stem = out_dir / f"{Path(result['image']).stem}_{result['task']}"
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
    print(f'written: {stem}.png, {stem}.json')


def main(argv: list[str] | None = None) -> int:
    """Run the demo; 0, or 2 for a mistake of the caller."""
    args = parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            config, words = check(args)
            inferencer = PerceptionInferencer(config, args.weights, args.device)
    except (FileNotFoundError, ValueError) as error:
        message = ' '.join(str(error).split())
        print(f'image_demo: {message}', file=sys.stderr)
        return 2
    result, = inferencer(args.image, args.task, words=words, text=args.text,
                         thinking=not args.no_thinking, score_thr=args.score_thr,
                         out_dir=args.out_dir)
    report(result, args.out_dir)
    return 0


if __name__ == '__main__':
    sys.exit(main())
