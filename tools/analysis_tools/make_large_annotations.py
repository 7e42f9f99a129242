# Copyright (c) mvp_mm authors. All rights reserved.
"""Make an annotation file of Objects365's size and layout, with made-up boxes and no images.

Annotations stand in random order, as a file that is not grouped by image may have them.

Example::

    python tools/analysis_tools/make_large_annotations.py work_dirs/large.json
"""
from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

CLASSES = 365
BLOCK = 100_000
IMAGE = ('{"height": %d, "id": %d, "license": 5, "width": %d, '
         '"file_name": "images/v1/patch%d/objects365_v1_%08d.jpg", "url": ""}')
ANNOTATION = ('{"id": %d, "iscrowd": %d, "isfake": 0, "area": %.10f, "isreflected": 0, '
              '"bbox": [%.10f, %.10f, %.10f, %.10f], "image_id": %d, "category_id": %d}')


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('out', type=Path, help='file to write')
    parser.add_argument('--images', type=int, default=1_742_289)
    parser.add_argument('--boxes', type=int, default=25_407_598)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    if min(args.images, args.boxes) < 1:
        parser.error('--images and --boxes must be positive')
    return args


def blocks(total: int, what: str) -> Iterator[np.ndarray]:
    """Consecutive numbers below ``total``, in blocks, with a progress bar."""
    with tqdm(total=total, desc=what, unit_scale=True) as bar:
        for start in range(0, total, BLOCK):
            numbers = np.arange(start, min(start + BLOCK, total))
            yield numbers
            bar.update(len(numbers))


def write(path: Path, images: int, boxes: int, seed: int) -> None:
    """Write the file.

    Args:
        path: The file.
        images: Number of images.
        boxes: Number of annotations.
        seed: Random seed.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(480, 1200, (images, 2))
    with path.open('w', encoding='ascii') as file:
        file.write('{"images": [')
        for rows in blocks(images, 'images'):
            texts = [IMAGE % (h, row + 1, w, row % 50, row + 1)
                     for row, (h, w) in zip(rows.tolist(), sizes[rows].tolist(), strict=True)]
            file.write((', ' if rows[0] else '') + ', '.join(texts))
        file.write('], "annotations": [')
        for rows in blocks(boxes, 'boxes'):
            owner = rng.integers(images, size=len(rows))
            high, wide = sizes[owner].T
            corner, extent = rng.random((2, len(rows))), rng.random((2, len(rows)))
            w, h = np.maximum(extent * (1 - corner), 0.004) * (wide, high)
            x, y = corner * (wide, high) * 0.99
            crowd, label = rng.random(len(rows)) < 0.01, rng.integers(CLASSES, size=len(rows))
            columns = (rows + 1, crowd, w * h, x, y, w, h, owner + 1, label + 1)
            texts = [ANNOTATION % row
                     for row in zip(*(c.tolist() for c in columns), strict=True)]
            file.write((', ' if rows[0] else '') + ', '.join(texts))
        names = ', '.join(f'{{"id": {k + 1}, "name": "class {k + 1}"}}' for k in range(CLASSES))
        file.write(f'], "categories": [{names}]}}')


def main() -> None:
    """Make the file."""
    args = parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write(args.out, args.images, args.boxes, args.seed)
    print(f'{args.out}: {args.out.stat().st_size / 1e9:.2f} GB')


if __name__ == '__main__':
    main()
