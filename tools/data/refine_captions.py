# Copyright (c) mvp_mm authors. All rights reserved.
"""Clean captions: drop meaningless ones and duplicates, remove the sentences that guess.

Reads a folder written by auto_caption.py, a file written by merge_captions.py, a caption store or
COCO captions in JSON, or LLaVA chats. Beside the result it writes what was removed and why.

Example::

    python tools/data/refine_captions.py data/objects365/captions/raw \
        --out data/objects365/captions/objects365_train.jsonl
"""
from __future__ import annotations

import argparse
import inspect
import sys

from mvp_mm.captioning.report import write_refined
from mvp_mm.datasets.captions.refine import CaptionRefiner
from mvp_mm.datasets.captions.sources import open_source

DEFAULTS = {name: parameter.default
            for name, parameter in inspect.signature(CaptionRefiner).parameters.items()}


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('source', help='folder or file of captions')
    parser.add_argument('--out', required=True, help='the cleaned captions, a .jsonl file')
    parser.add_argument('--min-words', type=int, default=DEFAULTS['min_words'],
                        help='fewest words of a caption')
    parser.add_argument('--max-words', type=int, default=DEFAULTS['max_words'],
                        help='most words of a caption')
    parser.add_argument('--min-entropy-ratio', type=float, default=DEFAULTS['min_entropy_ratio'],
                        help='lowest entropy of its words, as a share of the highest possible')
    parser.add_argument('--max-character-entropy', type=float,
                        default=DEFAULTS['max_character_entropy'],
                        help='highest entropy of its characters, bits')
    parser.add_argument('--keep-hedging', action='store_true', help='keep sentences that guess')
    parser.add_argument('--examples', type=int, default=10,
                        help='examples of each reason in the report')
    parser.add_argument('--workers', type=int, default=1, help='processes')
    return parser.parse_args()


def main() -> None:
    """Refine and report."""
    args = parse_args()
    if not args.out.endswith('.jsonl'):
        sys.exit(f'error: --out must end in .jsonl, got {args.out}')
    try:
        refiner = CaptionRefiner(
            min_words=args.min_words, max_words=args.max_words,
            min_entropy_ratio=args.min_entropy_ratio,
            max_character_entropy=args.max_character_entropy, hedging=not args.keep_hedging)
        report = write_refined(
            open_source(args.source), refiner, args.out, args.examples, args.workers)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    print(report.as_text(), end='')
    print(f'\nwritten to {args.out}; report in {args.out}.report.json and .report.txt')


if __name__ == '__main__':
    main()
