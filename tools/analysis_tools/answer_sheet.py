# Copyright (c) mvp_mm authors. All rights reserved.
"""Ask a published model every task about held-out images of the synthetic world, on one sheet.

Example::

    python tools/analysis_tools/answer_sheet.py mvp_mm/weights/tiny --out work_dirs/sheet.png
"""
from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import mmcv
import numpy as np

from mvp_mm import MVP
from mvp_mm.synthetic import STUFF_CLASSES, THING_CLASSES
from mvp_mm.utils.checkpoint_io import CheckpointError
from mvp_mm.visualization import contact_sheet
from mvp_mm.visualization.drawing import justified_sheet
from mvp_mm.visualization.text import text_panel

# Width of the sheet, by the height of one picture.
COLUMNS = 4


class Question(NamedTuple):
    """One cell of the sheet.

    Attributes:
        title: What is asked, for people.
        image: Name of the image's file.
        asked: Arguments of the question.
        targets: How many objects its sentence means; None where none are counted.
    """

    title: str
    image: str
    asked: dict[str, Any]
    targets: int | None = None


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
    stuff = list(STUFF_CLASSES)
    for name, phrases, sentences in held_out(world, first, count):
        one = sentences.get(1, 'the largest thing')
        most = max(sentences, default=0)
        for title, targets, asked in (
                ('panoptic segmentation', None, dict(task='panoptic', words=words, stuff=stuff)),
                ('semantic segmentation', None, dict(task='semantic', words=words, stuff=stuff)),
                ('instance segmentation', None, dict(task='instance', words=shapes)),
                ('detection', None, dict(task='detection', words=shapes)),
                ('phrase grounding', None, dict(task='grounding', words=phrases)),
                ('referring segmentation', None, dict(task='referring_segmentation', text=one)),
                ('referring comprehension', None, dict(task='referring_comprehension', text=one)),
                ('generalised referring', most,
                 dict(task='generalized_referring', text=sentences.get(most, 'all things'))),
                ('the same, of nothing here', 0,
                 dict(task='generalized_referring', text=sentences.get(0, 'the black cat'))),
                ('caption', None, dict(task='caption'))):
            yield Question(title, name, asked, targets)


def title_of(question: Question, found: int) -> str:
    """Tell what is asked and, of a sentence that means any number of objects, what was found."""
    if question.targets is None:
        return question.title
    verdict = '' if found == question.targets else ', a mistake'
    return f'{question.title}: {found} of {question.targets} found{verdict}'


def cell(title: str, picture: np.ndarray, height: int) -> np.ndarray:
    """Draw a picture under its title."""
    width = round(picture.shape[1] * height / picture.shape[0])
    picture = mmcv.imresize(picture, (width, height))
    return np.concatenate([text_panel([(title, '')], width, height // 24), picture])


def main() -> None:
    """Ask and draw."""
    args = parse_args()
    start = time.monotonic()
    cells: dict[str, list[np.ndarray]] = {}
    try:
        model = MVP(args.weights)
        for question in questions(args.world, args.first, args.images):
            if question.image not in cells:
                picture = model.open(args.world / 'images/val' / question.image)
            answer = picture.ask(**question.asked)
            cells.setdefault(question.image, []).append(cell(
                title_of(question, len(answer)), np.asarray(answer.plot()), args.height))
    except (OSError, ValueError, CheckpointError) as error:
        sys.exit(f'answer_sheet: error: {error}')
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sheets = [justified_sheet(of_image, COLUMNS * args.height, args.height)
              for of_image in cells.values()]
    mmcv.imwrite(contact_sheet(sheets, 1)[..., ::-1], str(args.out))
    print(f'{sum(map(len, cells.values()))} answers in {time.monotonic() - start:.0f} s on '
          f'{args.out}')


if __name__ == '__main__':
    main()
