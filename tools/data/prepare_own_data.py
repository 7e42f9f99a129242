# Copyright (c) mvp_mm authors. All rights reserved.
"""Turn labels of your own into files and a config that train.

COCO JSON, YOLO, LabelMe, Pascal VOC, CVAT and a CSV of expressions are recognised. Every label is
checked; faults are told with file and record, and nothing is written then.

Example::

    python tools/data/prepare_own_data.py my_labels --out data/own
    python tools/train.py data/own/config.py
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image

from mvp_mm.own_data import LabelError, read_labels, split_dataset, write_dataset
from mvp_mm.own_data.config_file import config_text
from mvp_mm.own_data.formats import FORMATS
from mvp_mm.own_data.sheet import draw_sheet
from mvp_mm.utils.shipped import find_shipped


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('labels', type=Path, help='a file or folder of labels')
    parser.add_argument('--out', type=Path, required=True, help='a new folder for what is written')
    parser.add_argument('--images', type=Path, help='folder of the images, where the labels do '
                        'not lie beside them')
    parser.add_argument('--format', choices=FORMATS, help='default: recognised')
    parser.add_argument('--base', default='configs/mvplm/finetune/tiny.py',
                        help='config to inherit: tiny.py, lora.py or full.py of '
                        'configs/mvplm/finetune/')
    parser.add_argument('--val-share', type=float, default=0.2,
                        help='share of the images to validate on, where the labels name no split; '
                        '0 validates on the training images')
    parser.add_argument('--seed', type=int, default=0, help='draws the split and the pictures')
    return parser.parse_args()


def main() -> None:
    """Read, check, split, write and draw."""
    args = parse_args()
    try:
        base = find_shipped(args.base)
        dataset = read_labels(args.labels, args.images, args.format)
        split = split_dataset(dataset, args.val_share, args.seed)
        written = write_dataset(dataset, args.out)
    except (LabelError, OSError) as error:
        print(f'prepare_own_data: error: {error}', file=sys.stderr)
        sys.exit(2)
    config = args.out / 'config.py'
    config.write_text(config_text(written, base, config), encoding='utf-8')
    Image.fromarray(draw_sheet(dataset, seed=args.seed)).save(args.out / 'sheet.png')
    print('\n'.join([*written.summary, split]))
    print(f'look at {args.out / "sheet.png"}, then: python tools/train.py {config}')


if __name__ == '__main__':
    main()
