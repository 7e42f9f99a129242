# Copyright (c) mvp_mm authors. All rights reserved.
"""How many pixels of things and of stuff get the right word where a user asks for all classes.

Once the user names the stuff, once says nothing about it.

Example::

    python tools/analysis_tools/right_pixels.py CHECKPOINT --config CONFIG \
        --annotations data/synthetic/annotations/panoptic_val.json \
        --images data/synthetic/images/val --number 30
"""
from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from mvp_mm import MVP
from mvp_mm.utils.atomic import write_text
from mvp_mm.utils.files import load_json
from mvp_mm.utils.masks import read_segment_map


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('checkpoint', help='checkpoint, published folder or name of the model zoo')
    parser.add_argument('--config', help='by default the one stored with the weights')
    parser.add_argument('--annotations', type=Path, required=True,
                        help="COCO's panoptic JSON, its maps in the folder of that name beside it")
    parser.add_argument('--images', type=Path, required=True, help='folder of the images')
    parser.add_argument('--number', type=int, default=30, help='first images of the file')
    parser.add_argument('--task', default='panoptic', choices=['panoptic', 'semantic'])
    parser.add_argument('--thinking', action='store_true', help='let the LLM write first')
    parser.add_argument('--out', type=Path, help='also write the figures to this JSON file')
    return parser.parse_args()


def count_right(model: MVP, truth: dict[str, Any], maps: Path, images: Path,
                **question: Any) -> dict[str, float]:
    """Ask for all classes of a file about each of its images and count pixels.

    Args:
        model: The model.
        truth: Content of a COCO panoptic file.
        maps: Folder of its PNG files.
        images: Folder of the images.
        question: ``task``, ``stuff`` and ``thinking`` of :class:`~mvp_mm.MVP`.

    Returns:
        Percent of right pixels by ``things``, ``stuff`` and ``all``; pixels without a class in
        the file count nowhere.
    """
    classes = {category['id']: category for category in truth['categories']}
    files = {image['id']: image['file_name'] for image in truth['images']}
    words = [category['name'] for category in truth['categories']]
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for record in truth['annotations']:
        answer = model(images / files[record['image_id']], words=words, progress=False,
                       **question)
        labels = {segment['id']: segment['label'] for segment in answer.segments.info}
        ids = read_segment_map(str(maps / record['file_name']))
        for segment in record['segments_info']:
            category = classes[segment['category_id']]
            found, numbers = np.unique(answer.segments.map[ids == segment['id']],
                                       return_counts=True)
            hits = sum(number for ident, number in zip(found.tolist(), numbers.tolist(),
                                                       strict=True)
                       if labels.get(ident) == category['name'])
            for kind in ('things' if category['isthing'] else 'stuff', 'all'):
                right[kind] += hits
                total[kind] += int(numbers.sum())
    return {kind: 100 * right[kind] / total[kind] for kind in total}


def main() -> None:
    """Measure and print."""
    args = parse_args()
    try:
        truth = load_json(args.annotations)
        truth['annotations'] = truth['annotations'][:args.number]
        model = MVP(args.checkpoint, config=args.config)
    except (OSError, ValueError) as error:
        sys.exit(f'right_pixels: error: {error}')
    stuff = [category['name'] for category in truth['categories'] if not category['isthing']]
    figures = {title: count_right(model, truth, args.annotations.with_suffix(''), args.images,
                                  task=args.task, stuff=named, thinking=args.thinking)
               for title, named in (('stuff named', stuff), ('nothing said', None))}
    print(f'right pixels of {len(truth["annotations"])} images in percent, {args.task}')
    for title, found in figures.items():
        print(f'{title:12}  ' + '  '.join(f'{kind} {share:.1f}' for kind, share in found.items()))
    if args.out is not None:
        write_text(args.out, json.dumps(figures, indent=1))


if __name__ == '__main__':
    main()
