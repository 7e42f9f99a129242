# Copyright (c) mvp_mm authors. All rights reserved.
"""Plot the losses of a training run: one panel per kind of loss, and the learning rate.

Example::

    python tools/analysis_tools/plot_curves.py work_dirs/x --out work_dirs/x/curves.png
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

COLUMNS = 4


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('runs', nargs='+', type=Path, help='folders of runs, drawn together')
    parser.add_argument('--out', type=Path, required=True, help='picture to write')
    return parser.parse_args()


def read_curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Read the curves (step, value) of the newest start of a run.

    The losses of the last decoder layer stand for all layers.

    Raises:
        FileNotFoundError: If the run has logged nothing.
    """
    files = sorted(run.glob('*/vis_data/scalars.json'))
    if not files:
        raise FileNotFoundError(f'{run}: no */vis_data/scalars.json: nothing was logged')
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in files[-1].read_text().splitlines():
        entry = json.loads(line)
        for key, value in entry.items():
            if 'step' in entry and (key in ('loss', 'lr') or key.startswith('loss_')):
                curves.setdefault(key, []).append((entry['step'], value))
    return curves


def main() -> None:
    """Plot."""
    args = parse_args()
    try:
        runs = {run.name: read_curves(run) for run in args.runs}
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f'plot_curves: error: {error}')
    names = list(dict.fromkeys(name for curves in runs.values() for name in curves))
    if not names:
        sys.exit(f'plot_curves: error: {args.runs[0]} has logged no loss')
    rows = -(-len(names) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(4 * COLUMNS, 2.6 * rows), squeeze=False)
    for axis in axes.flat[len(names):]:
        axis.set_axis_off()
    for axis, name in zip(axes.flat, names, strict=False):
        for run, curves in runs.items():
            if name in curves:
                axis.plot(*zip(*curves[name], strict=True), label=run)
        axis.set_title(name)
        axis.grid(alpha=0.3)
    axes[0, 0].legend()
    axes[-1, 0].set_xlabel('step')
    figure.tight_layout()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=100)
    for run, curves in runs.items():
        (first, before), (last, after) = curves['loss'][0], curves['loss'][-1]
        print(f'{run}: loss {before:.2f} at step {first}, {after:.2f} at step {last}')
    print(f'{len(names)} curves on {args.out}')


if __name__ == '__main__':
    main()
