# Copyright (c) mvp_mm authors. All rights reserved.
"""Turn Pascal Context's MATLAB label maps into PNGs of the 59 frequent classes.

Reads ``ROOT/trainval/*.mat`` (the dataset's ``trainval.tar.gz``) and writes
``ROOT/SegmentationClassContext/*.png``: 0 for any other class, then 1 to 59 in the order of the
classes' ids. Maps that exist are kept.

Example::

    python tools/data/prepare_pascal_context.py data/VOCdevkit/VOC2010
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import loadmat
from tqdm import tqdm

# Ids of the 59 classes among the dataset's 459.
CLASS_IDS = (2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105,
             113, 115, 144, 158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296,
             308, 324, 326, 347, 349, 354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440,
             445, 454, 458)


def convert(path: Path) -> np.ndarray:
    """The map of a file, (h, w) uint8.

    Raises:
        ValueError: If the file holds no label map of the 459 classes.
    """
    try:
        labels = loadmat(path)['LabelMap']
    except (KeyError, ValueError, TypeError, OSError, NotImplementedError) as error:
        raise ValueError(f'{path} holds no LabelMap: {error}') from error
    if labels.ndim != 2 or labels.max() > 459:
        raise ValueError(f'{path}: LabelMap has shape {labels.shape} and values up to '
                         f'{labels.max()}, expected two dimensions and at most 459')
    table = np.zeros(460, dtype=np.uint8)
    table[list(CLASS_IDS)] = np.arange(1, 60)
    return table[labels]


def main() -> None:
    """Convert all maps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('root', type=Path, help='the VOC2010 folder')
    root = parser.parse_args().root
    files = sorted((root / 'trainval').glob('*.mat'))
    if not files:
        sys.exit(f'prepare_pascal_context: error: {root / "trainval"} has no *.mat')
    folder = root / 'SegmentationClassContext'
    folder.mkdir(exist_ok=True)
    written = 0
    for path in tqdm(files, unit='map', disable=not sys.stderr.isatty()):
        out = folder / f'{path.stem}.png'
        if out.exists():
            continue
        try:
            image = Image.fromarray(convert(path))
        except ValueError as error:
            sys.exit(f'prepare_pascal_context: error: {error}')
        part = out.with_suffix('.part')
        image.save(part, 'PNG')
        part.replace(out)
        written += 1
    print(f'{len(files)} maps, {written} written')


if __name__ == '__main__':
    main()
