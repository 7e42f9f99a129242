# Copyright (c) mvp_mm authors. All rights reserved.
"""Write the figures of results/*.json into the pages that name them.

Without ``--check`` pages are rewritten in place; a figure is never typed by hand.

Example::

    python tools/analysis_tools/fill_in_results.py README.md docs/appendix/tiny_model.md
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mvp_mm.analysis.result_blocks import fill_in
from mvp_mm.utils.atomic import write_text


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('pages', nargs='+', type=Path, help='Markdown files')
    parser.add_argument('--root', type=Path, default=Path('.'),
                        help='folder that the result files are named from')
    parser.add_argument('--check', action='store_true', help='write nothing; exit code 1 where a '
                        'page differs from its files')
    return parser.parse_args()


def main() -> None:
    """Fill in."""
    args = parse_args()
    stale = []
    for page in args.pages:
        try:
            text = page.read_text(encoding='utf-8')
            filled = fill_in(text, args.root)
        except (FileNotFoundError, KeyError) as error:
            sys.exit(f'fill_in_results: error: {page}: {error.args[-1]}')
        if filled != text:
            stale.append(str(page))
            if not args.check:
                write_text(page, filled)
    if args.check and stale:
        sys.exit(f'fill_in_results: error: {", ".join(stale)}: the text differs from its result '
                 'files; run this command without --check')
    print(f'{len(args.pages)} pages, {len(stale)} changed')


if __name__ == '__main__':
    main()
