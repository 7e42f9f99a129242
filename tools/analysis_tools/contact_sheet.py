# Copyright (c) mvp_mm authors. All rights reserved.
"""Put the pictures of a test (one folder a data set) on one sheet.

Example::

    python tools/analysis_tools/contact_sheet.py work_dirs/x/vis_images --out sheet.png
"""
import argparse
import sys
from pathlib import Path

import mmcv
import numpy as np

from mvp_mm.visualization import contact_sheet


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path, help='folder with a folder of pictures a data set')
    parser.add_argument('--out', type=Path, required=True, help='picture to write')
    parser.add_argument('--columns', type=int, default=4, help='pictures from each data set')
    parser.add_argument('--width', type=int, default=480, help='width of one picture in pixels')
    return parser.parse_args()


def pick(folder: Path, count: int) -> list[Path]:
    """``count`` pictures of a folder, evenly spread."""
    found = sorted(folder.glob('*.png'))
    chosen = np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)
    return [found[i] for i in chosen]


def main() -> None:
    """Make the sheet."""
    args = parse_args()
    paths = [path for folder in sorted(args.folder.glob('*')) if folder.is_dir()
             for path in pick(folder, args.columns)]
    if not paths:
        sys.exit(f'contact_sheet: error: no pictures in the folders of {args.folder}')
    images = []
    for path in paths:
        image = mmcv.imread(path, channel_order='rgb')
        images.append(mmcv.imresize(
            image, (args.width, round(image.shape[0] * args.width / image.shape[1]))))
    mmcv.imwrite(contact_sheet(images, args.columns)[..., ::-1], str(args.out))
    print(f'{len(images)} pictures on {args.out}')


if __name__ == '__main__':
    main()
