# Copyright (c) mvp_mm authors. All rights reserved.
"""Index WebDataset tars of image-caption pairs, so that training can read any sample.

Example::

    python tools/data/index_tars.py data/cc3m_tars
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from mvp_mm.datasets.readers.tar_images import write_tar_index


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('root', type=Path, help='folder with the tars, subfolders included')
    parser.add_argument('--out', default='index.jsonl', help='name of the index in that folder')
    return parser.parse_args()


def main() -> None:
    """Write the index."""
    args = parse_args()
    tars = sorted(args.root.rglob('*.tar'))
    if not tars:
        sys.exit(f'index_tars: error: {args.root} has no *.tar')
    try:
        counts = write_tar_index(tqdm(tars, unit='tar', disable=not sys.stderr.isatty()),
                                 args.root / args.out)
    except ValueError as error:
        sys.exit(f'index_tars: error: {error}')
    print(', '.join(f'{number} {what.replace("_", " ")}' for what, number in counts.items()))


if __name__ == '__main__':
    main()
