# Copyright (c) mvp_mm authors. All rights reserved.
"""Plot the losses of a training run: one panel per kind of loss, and the learning rate.

Example::

    python tools/analysis_tools/plot_curves.py work_dirs/x --out work_dirs/x/curves.png

Values that were logged step by step scatter with their batches: ``--mean 10`` draws their running
mean over them, and compares the means of the first and the last ten.
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

COLUMNS = 4


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('runs', nargs='+', type=Path, help='folders of runs, drawn together')
    parser.add_argument('--out', type=Path, required=True, help='picture to write')
    parser.add_argument('--mean', type=int, default=1, metavar='N',
                        help='draw the running mean over N logged values too')
    parser.add_argument('--log', action='store_true', help='draw losses on a logarithmic axis')
    args = parser.parse_args()
    if args.mean < 1:
        parser.error(f'--mean takes a number from 1 on, got {args.mean}')
    return args


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


def draw(axis: plt.Axes, curve: list[tuple[int, float]], label: str, mean: int) -> None:
    """Draw a curve, with its running mean where one is asked for and there are enough values."""
    steps, values = np.array(curve, dtype=float).T
    if mean == 1 or len(values) < mean:
        axis.plot(steps, values, label=label)
        return
    line, = axis.plot(steps[mean - 1:], np.convolve(values, np.ones(mean) / mean, 'valid'),
                      label=f'{label}, mean of {mean}')
    axis.plot(steps, values, color=line.get_color(), alpha=0.3, linewidth=0.8)


def compare(curve: list[tuple[int, float]], mean: int) -> str:
    """Tell a curve's beginning and end, with standard errors where they are means."""
    if mean == 1 or len(curve) < 2 * mean:
        (first, before), (last, after) = curve[0], curve[-1]
        return f'{before:.2f} at step {first}, {after:.2f} at step {last}'
    values = np.array(curve)[:, 1]
    ends = [f'{part.mean():.2f} ± {part.std(ddof=1) / mean ** 0.5:.2f}'
            for part in (values[:mean], values[-mean:])]
    return (f'{ends[0]} over steps {curve[0][0]} to {curve[mean - 1][0]}, '
            f'{ends[1]} over steps {curve[-mean][0]} to {curve[-1][0]} (mean, standard error)')


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
                draw(axis, curves[name], run, 1 if name == 'lr' else args.mean)
        if args.log and name != 'lr':
            axis.set_yscale('log')
        axis.set_title(name)
        axis.grid(alpha=0.3)
    axes.flat[names.index('loss') if 'loss' in names else 0].legend()
    axes[-1, 0].set_xlabel('step')
    figure.tight_layout()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=100)
    for run, curves in runs.items():
        print(f'{run}: loss {compare(curves["loss"], args.mean)}')
    print(f'{len(names)} curves on {args.out}')


if __name__ == '__main__':
    main()
