# Copyright (c) mvp_mm authors. All rights reserved.
"""Put files of ``benchmark_gpu.py`` and an earlier record into one result file.

Ratios against the record's other system are computed, profiles added up by kind of kernel.
Sections that failed or were left out are listed with their reason.

Example::

    python tools/analysis_tools/collect_gpu_figures.py answers=a.json training=b.json \
        --record results/gpu_record.json --out results/gpu.json
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from mvp_mm.analysis.gpu_report import against_peer, sections_of
from mvp_mm.analysis.results import command_line
from mvp_mm.utils.atomic import write_text
from mvp_mm.version import __version__

STEP = 'step accelerated, '


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('runs', nargs='+', metavar='NAME=FILE', help='files of benchmark_gpu.py')
    parser.add_argument('--record', type=Path, required=True,
                        help='result file with the figures `before` and `released`')
    parser.add_argument('--out', type=Path, required=True, help='result file to write')
    return parser.parse_args()


def main() -> None:
    """Collect and write."""
    args = parse_args()
    figures: dict[str, Any] = {}
    surroundings: dict[str, Any] = {}
    try:
        record = json.loads(args.record.read_text())
        for run in args.runs:
            name, _, file = run.partition('=')
            content = json.loads(Path(file).read_text())
            figures[name], missing = sections_of(content)
            surroundings[name] = dict(content['surroundings'], not_measured=missing)
            surroundings[name].pop('section_seconds', None)
        steps = {title.removeprefix(STEP): section for sections in list(figures.values())
                 for title, section in sections.items()
                 if title.startswith(STEP) and 'ms' in section}
        figures.update(record['figures'],
                       against_released=against_peer(steps, record['figures']['released']))
    except KeyError as error:
        sys.exit(f'collect_gpu_figures: error: a file has no {error}')
    except (OSError, ValueError) as error:
        sys.exit(f'collect_gpu_figures: error: {error}')
    devices = sorted({run['device'] for run in surroundings.values()})
    content = dict(
        command=command_line(), version=__version__,
        commit=sorted({run['commit'] for run in surroundings.values()}),
        hardware=dict(gpus=devices, torch=sorted({r['torch'] for r in surroundings.values()})),
        runs=surroundings, record={key: value for key, value in record.items() if key != 'figures'},
        figures=figures)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(args.out, json.dumps(content, indent=1, ensure_ascii=False) + '\n')
    print(f'{len(args.runs)} runs in {args.out}')


if __name__ == '__main__':
    main()
