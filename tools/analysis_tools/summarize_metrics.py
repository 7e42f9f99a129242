# Copyright (c) mvp_mm authors. All rights reserved.
"""Print a test's metrics as a table, one row a metric.

Example::

    python tools/analysis_tools/summarize_metrics.py work_dirs/x/metrics.json
"""
from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('metrics', type=Path, help='metrics.json of tools/test.py')
    metrics = json.loads(parser.parse_args().metrics.read_text())
    width = max(map(len, metrics))
    for name, value in sorted(metrics.items()):
        print(f'{name:{width}}  {value:7.2f}')


if __name__ == '__main__':
    main()
