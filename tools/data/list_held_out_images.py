# Copyright (c) mvp_mm authors. All rights reserved.
"""List the images of the RefCOCO family's val and test splits, to leave out of COCO training.

The dataset configs leave the same images out by themselves (``exclude_refs``); this tells how many
there are, and writes their ids for other tools.

Example::

    python tools/data/list_held_out_images.py data/refer/refcoco*/refs*.p \
        "data/refer/grefcoco/grefs(unc).json" \
        --coco data/coco/annotations/panoptic_train2017.json --out held_out.txt
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mvp_mm.datasets.refer_files import held_out_images, split_images
from mvp_mm.utils.faults import Faults
from mvp_mm.utils.files import load_json
from mvp_mm.utils.records import ID_OR_TEXT, RecordFormat


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('refs', type=Path, nargs='+',
                        help='files of references: refs(*).p, grefs(*).json')
    parser.add_argument('--coco', type=Path, nargs='*', default=[],
                        help='COCO JSON files: how many of their images are meant')
    parser.add_argument('--out', type=Path, help='text file for the image ids, one a line')
    return parser.parse_args()


def _image_ids(path: Path) -> set[int]:
    """Image ids of a COCO JSON file."""
    content, faults = load_json(path), Faults(path)
    if not isinstance(content.get('images'), list):
        faults('broken record', 'the file', 'must have a list of images')
    image = RecordFormat('image', id=ID_OR_TEXT)
    return {record['id'] for place, record in enumerate(content['images'])
            if image.accepts(record, faults, place)}


def main() -> None:
    """List the images."""
    args = parse_args()
    held_out: set[int] = set()
    try:
        for path in args.refs:
            splits = split_images(path)
            for split, images in sorted(splits.items()):
                print(f'{path.parent.name}/{path.name} {split}: {len(images)} images')
            inside = held_out_images(splits)
            shared = len(inside & splits.get('train', set()))
            if shared:
                print(f'  {shared} of them are in its train split too')
            held_out |= inside
        print(f'held out: {len(held_out)} images')
        for path in args.coco:
            known = _image_ids(path)
            left = len(known - held_out)
            print(f'{path.name}: {len(known & held_out)} of {len(known)} images leave, '
                  f'{left} stay')
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f'list_held_out_images: error: {error}')
    if args.out:
        args.out.write_text(''.join(f'{image_id}\n' for image_id in sorted(held_out)))


if __name__ == '__main__':
    main()
