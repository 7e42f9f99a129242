# Copyright (c) mvp_mm authors. All rights reserved.
"""Put the pictures of a test (one folder per dataset) on one sheet.

Example::

    python tools/analysis_tools/contact_sheet.py work_dirs/x/vis_images --out sheet.png
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

import mmcv
import numpy as np

from mvp_mm.visualization import contact_sheet
from mvp_mm.visualization.text import text_panel


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path, help='folder with one folder of pictures per dataset')
    parser.add_argument('--out', type=Path, required=True, help='picture to write')
    parser.add_argument('--columns', type=int, default=4, help='pictures per dataset')
    parser.add_argument('--height', type=int, default=560, help='height of one picture in pixels')
    return parser.parse_args()


def pick(folder: Path, count: int) -> list[Path]:
    """``count`` pictures of a folder, evenly spread."""
    found = sorted(folder.glob('*.png'))
    chosen = np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)
    return [found[i] for i in chosen]


def main() -> None:
    """Make the sheet."""
    args = parse_args()
    rows, count = [], 0
    for folder in sorted(path for path in args.folder.glob('*') if path.is_dir()):
        images = []
        for path in pick(folder, args.columns):
            image = mmcv.imread(path, channel_order='rgb')
            images.append(mmcv.imresize(
                image, (round(image.shape[1] * args.height / image.shape[0]), args.height)))
        if images:
            row = contact_sheet(images, args.columns)
            rows += [text_panel([(folder.name, '')], row.shape[1], args.height // 20), row]
            count += len(images)
    if not rows:
        sys.exit(f'contact_sheet: error: no pictures in the folders of {args.folder}')
    mmcv.imwrite(contact_sheet(rows, 1)[..., ::-1], str(args.out))
    print(f'{count} pictures on {args.out}')


if __name__ == '__main__':
    main()
