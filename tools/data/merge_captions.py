# Copyright (c) mvp_mm authors. All rights reserved.
"""Check that captioners left nothing out and wrote nothing twice; join their captions.

Exit code 1 where an image lacks a caption, was captioned twice or is not on the list, or where a
shard is missing or was made otherwise.

Example::

    python tools/data/merge_captions.py data/objects365/captions/raw --report coverage.json
    python tools/data/merge_captions.py data/objects365/captions/raw --out captions.jsonl
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from mvp_mm.captioning.merge import StoreCheck, write_merged
from mvp_mm.datasets.captions.shards import write_atomically


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('store', help='folder written by auto_caption.py')
    parser.add_argument('--out', help='also write all captions to this .jsonl file')
    parser.add_argument('--report', help='also write everything that was found to this JSON file')
    parser.add_argument('--allow-gaps', action='store_true',
                        help='write --out even though something is missing or there twice')
    return parser.parse_args()


def main() -> None:
    """Merge and report."""
    args = parse_args()
    if args.out and not args.out.endswith('.jsonl'):
        sys.exit(f'error: --out must end in .jsonl, got {args.out}')
    try:
        check = StoreCheck(args.store)
        print(check.summary())
        if args.report:
            write_atomically(Path(args.report), json.dumps(check.report(), indent=1) + '\n')
        if args.out and (check.complete or args.allow_gaps):
            print(f'{write_merged(check, args.out)} images written to {args.out}')
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    if not check.complete:
        if args.out and not args.allow_gaps:
            print(f'{args.out} was not written: pass --allow-gaps to write it as it is')
        sys.exit(1)


if __name__ == '__main__':
    main()
