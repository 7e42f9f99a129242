# Copyright (c) mvp_mm authors. All rights reserved.
"""Print the metrics of one or several tests as a table, one row per metric.

Example::

    python tools/analysis_tools/summarize_metrics.py work_dirs/x/metrics.json
    python tools/analysis_tools/summarize_metrics.py before.json after.json --brief
"""
from __future__ import annotations

import argparse
import json
from pathlib import Path

MAIN = ('panoptic/PQ', '/PQ_th', '/PQ_st', '/mIoU', '/bbox_AP', '/bbox_AP50', '/segm_AP',
        '/segm_AP50', 'referring/cIoU', 'referring/REC', 'generalized/cIoU', '/N-acc', '/T-acc',
        'grounding/R@1', 'caption/objects_F1', '/hallucinations')


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('metrics', nargs='+', type=Path,
                        help='metrics.json of tools/test.py; one column per file')
    parser.add_argument('--brief', action='store_true', help='the main ones alone')
    args = parser.parse_args()
    tests = [json.loads(path.read_text()) for path in args.metrics]
    names = sorted({name for test in tests for name in test
                    if not args.brief or name.endswith(MAIN)})
    columns = [path.stem for path in args.metrics]
    widths = [max(7, len(column)) for column in columns]
    first = max(map(len, names))
    if len(tests) > 1:
        print(' ' * first, *(f' {column:>{width}}' for column, width in
                             zip(columns, widths, strict=True)), sep='')
    for name in names:
        print(f'{name:{first}}', *(
            f' {test[name]:{width}.2f}' if name in test else f' {"-":>{width}}'
            for test, width in zip(tests, widths, strict=True)))


if __name__ == '__main__':
    main()
