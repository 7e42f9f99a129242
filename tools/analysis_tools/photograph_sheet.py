# Copyright (c) mvp_mm authors. All rights reserved.
"""Ask a model for the panoptic segmentation of a few photographs of a dataset, on one sheet.

The photographs are spread evenly over the annotation file, whose categories are the word list.
Each stands above its answer; what was found is printed. COCO's photographs belong to their makers:
--licences chooses those that may be shown, and their addresses are printed.

Example::

    python tools/analysis_tools/photograph_sheet.py work_dirs/pretrained/iter_1200.pth \
        --config configs/mvplm/small/mini_coco.py --out work_dirs/photographs.png \
        --annotations $MVP_MM_SAMPLE_DATA/coco/annotations/panoptic_val2017.json \
        --images $MVP_MM_SAMPLE_DATA/coco/val2017
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import mmcv
import numpy as np

from mvp_mm import MVP
from mvp_mm.datasets.readers.coco_panoptic import COCO_SUFFIXES, strip_suffixes
from mvp_mm.utils.checkpoint_io import CheckpointError
from mvp_mm.visualization import contact_sheet

COLUMNS = 4


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('weights', help='a published folder, or a checkpoint')
    parser.add_argument('--config', help='config, where the weights have none')
    parser.add_argument('--annotations', type=Path, required=True,
                        help='COCO panoptic JSON of the photographs')
    parser.add_argument('--images', type=Path, required=True, help='their folder')
    parser.add_argument('--out', type=Path, required=True, help='picture to write')
    parser.add_argument('--licences', type=int, nargs='+', metavar='ID',
                        help='photographs with these licences of the JSON alone, such as 4 5 '
                             '(CC BY, CC BY-SA) of COCO; default: all')
    parser.add_argument('--number', type=int, default=8, help='number of photographs')
    parser.add_argument('--height', type=int, default=300, help='height of one picture in pixels')
    parser.add_argument('--thinking', action='store_true', help='let the LLM write its caption')
    args = parser.parse_args()
    if args.number < 1:
        parser.error('--number must be at least 1')
    return args


def choose(annotations: Path, number: int, licences: list[int] | None = None
           ) -> tuple[dict[str, str], list[str], list[str]]:
    """Choose photographs that are spread evenly.

    Returns:
        Their file names with the addresses that they came from, the words, and the words that are
        stuff.

    Raises:
        ValueError: If no photograph has one of the licences.
    """
    truth = json.loads(annotations.read_text())
    origins = {image['file_name']: image.get('flickr_url', '') for image in truth['images']
               if licences is None or image.get('license') in licences}
    if not origins:
        raise ValueError(f'{annotations}: no image has one of the licences {licences}')
    files = sorted(origins)
    places = np.linspace(0, len(files) - 1, min(number, len(files))).round().astype(int)
    names = {strip_suffixes(c['name'], COCO_SUFFIXES): bool(c['isthing'])
             for c in truth['categories']}
    return ({files[place]: origins[files[place]] for place in places}, list(names),
            [name for name, is_thing in names.items() if not is_thing])


def to_height(picture: np.ndarray, height: int) -> np.ndarray:
    """Scale a picture (h, w, 3) to a height."""
    return mmcv.imresize(picture, (round(picture.shape[1] * height / picture.shape[0]), height))


def main() -> None:
    """Ask and draw."""
    args = parse_args()
    rows = []
    try:
        origins, words, stuff = choose(args.annotations, args.number, args.licences)
        files = list(origins)
        model = MVP(args.weights, config=args.config)
        for start in range(0, len(files), COLUMNS):
            photographs, answers = [], []
            for name in files[start:start + COLUMNS]:
                answer = model(str(args.images / name), words=words, stuff=stuff,
                               task='panoptic', thinking=args.thinking, progress=False)
                found = [f"{s['label']} {s['score']:.2f}" for s in answer.segments[1]]
                print(f'{name} {origins[name]}: {", ".join(found) or "nothing"}', flush=True)
                photograph = mmcv.imread(str(args.images / name), channel_order='rgb')
                photographs.append(to_height(photograph, args.height))
                answers.append(to_height(np.asarray(answer.plot().convert('RGB')), args.height))
            rows += photographs + [np.full((1, 1, 3), 255, np.uint8)] * (
                COLUMNS - len(photographs)) + answers
    except (OSError, ValueError, KeyError, CheckpointError) as error:
        sys.exit(f'photograph_sheet: error: {error}')
    mmcv.imwrite(contact_sheet(rows, COLUMNS)[..., ::-1], str(args.out))


if __name__ == '__main__':
    main()
