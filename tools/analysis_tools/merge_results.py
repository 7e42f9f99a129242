# Copyright (c) mvp_mm authors. All rights reserved.
"""Join result files of one model that was measured in several processes, a dataset in each.

Example::

    python tools/analysis_tools/merge_results.py part_*.json --out results/tiny_model.json \
        --weights mvp_mm/weights/tiny/model.safetensors

With ``--update FILE`` the parts' datasets take the place of those in a finished file, which then
says what made them.
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from mvp_mm.analysis.merging import merge, update
from mvp_mm.analysis.results import file_hash
from mvp_mm.utils.atomic import write_text


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('parts', nargs='+', type=Path, help='result files')
    parser.add_argument('--out', type=Path, required=True, help='result file to write')
    parser.add_argument('--weights', type=Path, help='where the weights lie now; they must be '
                        'those that were measured')
    parser.add_argument('--update', type=Path, metavar='FILE', help='result file in which the '
                        'datasets of the parts are replaced')
    return parser.parse_args()


def main() -> None:
    """Join."""
    args = parse_args()
    try:
        found = merge({str(part): json.loads(part.read_text()) for part in args.parts})
        if args.weights is not None:
            if file_hash(args.weights) != found['weights']['sha256']:
                raise ValueError(f'{args.weights} is not what was measured')
            found['weights']['file'] = str(args.weights)
        if args.update is not None:
            found = update(json.loads(args.update.read_text()), found)
    except (OSError, ValueError) as error:
        sys.exit(f'merge_results: error: {error}')
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(args.out, json.dumps(found, indent=1, ensure_ascii=False) + '\n')
    print(f'{len(args.parts)} files joined in {args.out}')


if __name__ == '__main__':
    main()
