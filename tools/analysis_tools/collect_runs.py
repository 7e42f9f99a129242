# Copyright (c) mvp_mm authors. All rights reserved.
"""Put the results of several recipes, each with one seed or more, into one result file.

A run is given as ``RECIPE=FILE[,FILE]``: its result files of ``measure_model.py``, a dataset or
more in each. Runs of one recipe are averaged. ``--history RECIPE=FILE`` adds the losses, averaged
over the last tenth of a training log of JSON lines (``last_loss``), and their shares (``loss``).

Example::

    python tools/analysis_tools/collect_runs.py paper=a_0.json paper=a_1.json plus=b_0.json \
        --out results/additions.json --note steps=1122 --note batch=8
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from mvp_mm.analysis.merging import last_losses, loss_shares, merge, over_seeds
from mvp_mm.analysis.results import command_line
from mvp_mm.utils.atomic import write_text


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('runs', nargs='+', metavar='RECIPE=FILE[,FILE]', help='result files')
    parser.add_argument('--history', nargs='*', default=[], metavar='RECIPE=FILE',
                        help='training logs')
    parser.add_argument('--note', action='append', default=[], metavar='NAME=TEXT',
                        help='what else decided the figures')
    parser.add_argument('--out', type=Path, required=True, help='result file to write')
    return parser.parse_args()


def main() -> None:
    """Collect and write."""
    args = parse_args()
    found: dict[str, list[dict[str, Any]]] = {}
    try:
        for run in args.runs:
            recipe, _, files = run.partition('=')
            parts = {name: json.loads(Path(name).read_text()) for name in files.split(',')}
            found.setdefault(recipe, []).append(merge(parts))
        recipes: dict[str, Any] = {
            recipe: dict(over_seeds([run['figures'] for run in runs]), runs=len(runs))
            for recipe, runs in found.items()}
        for history in args.history:
            recipe, _, name = history.partition('=')
            lines = Path(name).read_text().splitlines()
            steps = [json.loads(line) for line in lines]
            recipes[recipe].update(loss=loss_shares(steps), last_loss=last_losses(steps))
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f'collect_runs: error: {error}')
    every = [run for runs in found.values() for run in runs]
    content = dict(command=command_line(), version=every[0]['version'],
                   commit=sorted({run['commit'] or '' for run in every}),
                   hardware=every[0]['hardware'],
                   settings=dict(note.split('=', 1) for note in args.note), figures=recipes)
    write_text(args.out, json.dumps(content, indent=1, ensure_ascii=False) + '\n')
    print(f'{len(every)} runs of {len(recipes)} recipes in {args.out}')


if __name__ == '__main__':
    main()
