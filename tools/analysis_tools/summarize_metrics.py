# Copyright (c) mvp_mm authors. All rights reserved.
"""Print a test's metrics as a table, one row per metric.

Example::

    python tools/analysis_tools/summarize_metrics.py work_dirs/x/metrics.json
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
    parser.add_argument('metrics', type=Path, help='metrics.json of tools/test.py')
    parser.add_argument('--brief', action='store_true', help='the main ones alone')
    args = parser.parse_args()
    metrics = json.loads(args.metrics.read_text())
    if args.brief:
        metrics = {name: value for name, value in metrics.items() if name.endswith(MAIN)}
    width = max(map(len, metrics))
    for name, value in sorted(metrics.items()):
        print(f'{name:{width}}  {value:7.2f}')


if __name__ == '__main__':
    main()
