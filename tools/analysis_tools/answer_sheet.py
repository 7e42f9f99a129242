# Copyright (c) mvp_mm authors. All rights reserved.
"""Ask a published model every task about held-out images of the synthetic world, on one sheet.

Example::

    python tools/analysis_tools/answer_sheet.py mvp_mm/weights/tiny --out work_dirs/sheet.png
"""
from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import mmcv
import numpy as np

from mvp_mm.apis import PerceptionInferencer
from mvp_mm.synthetic import STUFF_CLASSES, THING_CLASSES
from mvp_mm.utils.checkpoint_io import CheckpointError
from mvp_mm.visualization import contact_sheet
from mvp_mm.visualization.text import text_panel

# The answers of an image stand in rows of four pictures; a panoptic answer is two of them.
ROWS = (3, 4, 3)


class Question(NamedTuple):
    """One cell of the sheet.

    Attributes:
        title: What is asked, for people.
        image: Name of the image's file.
        asked: Arguments of the inferencer.
    """

    title: str
    image: str
    asked: dict[str, Any]


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('weights', type=Path, help='published folder')
    parser.add_argument('--world', type=Path, default=Path('data/synthetic'),
                        help='folder of the synthetic world')
    parser.add_argument('--out', type=Path, required=True, help='picture to write')
    parser.add_argument('--images', type=int, default=2, help='images that are asked about')
    parser.add_argument('--first', type=int, default=0, help='number of the first image')
    parser.add_argument('--height', type=int, default=520, help='height of one picture in pixels')
    return parser.parse_args()


def held_out(world: Path, first: int, count: int) -> Iterator[
        tuple[str, list[str], dict[int, str]]]:
    """Iterate held-out images: file name, grounded phrases, sentences by number of targets.

    Raises:
        FileNotFoundError: If the world is not there.
    """
    truth = json.loads((world / 'annotations/grounding_val.json').read_text())
    references = json.loads((world / 'refer/grefcoco/grefs(unc).json').read_text())
    for image in truth['images'][first:first + count]:
        spans = {tuple(span) for box in truth['annotations'] if box['image_id'] == image['id']
                 for span in box['tokens_positive']}
        sentences = {0 if ref['no_target'] else len(ref['ann_id']): ref['sentences'][0]['sent']
                     for ref in references if ref['image_id'] == image['id']}
        phrases = [image['caption'][start:end] for start, end in sorted(spans)]
        yield image['file_name'], phrases, sentences


def questions(world: Path, first: int, count: int) -> Iterator[Question]:
    """Iterate the questions of each image, in the order of the sheet."""
    words, shapes = [*THING_CLASSES, *STUFF_CLASSES], list(THING_CLASSES)
    for name, phrases, sentences in held_out(world, first, count):
        one = sentences.get(1, 'the largest thing')
        several = sentences.get(max(sentences, default=0), '')
        for title, asked in (
                ('panoptic segmentation',
                 dict(task='panoptic', words=words, stuff=list(STUFF_CLASSES))),
                ('semantic segmentation',
                 dict(task='semantic', words=words, stuff=list(STUFF_CLASSES))),
                ('instance segmentation', dict(task='instance', words=shapes)),
                ('detection', dict(task='detection', words=shapes)),
                ('phrase grounding', dict(task='grounding', words=phrases)),
                ('referring segmentation', dict(task='referring_segmentation', text=one)),
                ('referring comprehension', dict(task='referring_comprehension', text=one)),
                ('generalised referring', dict(
                    task='generalized_referring', text=several or 'all things')),
                ('the same, of nothing here', dict(
                    task='generalized_referring', text=sentences.get(0, 'the black cat'))),
                ('caption', dict(task='caption'))):
            yield Question(title, name, asked)


def cell(question: Question, picture: np.ndarray, height: int) -> np.ndarray:
    """Draw a picture under its title."""
    width = round(picture.shape[1] * height / picture.shape[0])
    picture = mmcv.imresize(picture, (width, height))
    return np.concatenate([text_panel([(question.title, '')], width, height // 24), picture])


def main() -> None:
    """Ask and draw."""
    args = parse_args()
    start = time.monotonic()
    cells = []
    try:
        model = PerceptionInferencer(None, args.weights)
        with tempfile.TemporaryDirectory() as folder:
            for question in questions(args.world, args.first, args.images):
                image = args.world / 'images/val' / question.image
                answer, = model(image, **question.asked, out_dir=folder)
                picture = mmcv.imread(answer['files']['png'], channel_order='rgb')
                cells.append(cell(question, picture, args.height))
    except (OSError, ValueError, CheckpointError) as error:
        sys.exit(f'answer_sheet: error: {error}')
    args.out.parent.mkdir(parents=True, exist_ok=True)
    count = len(cells)
    rows = []
    while cells:
        for number in ROWS:
            rows.append(contact_sheet(cells[:number], number))
            cells = cells[number:]
    mmcv.imwrite(contact_sheet(rows, 1)[..., ::-1], str(args.out))
    print(f'{count} answers in {time.monotonic() - start:.0f} s on {args.out}')


if __name__ == '__main__':
    main()
