# Copyright (c) mvp_mm authors. All rights reserved.
"""Run an ablation suite: train and measure every recipe with every seed, average, plot, write.

A run that is finished is not repeated; one that was interrupted continues from its newest
checkpoint. Each run has one process with one thread; its output is in <work-dir>/<run>/log.txt.

Example::

    python tools/analysis_tools/run_ablations.py --jobs 2 --out results/ablations.json \
        --plot docs/images/ablations.png --page docs/appendix/ablations.md
"""
from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mvp_mm.analysis.ablation_tables import collect, insert_tables, table_blocks
from mvp_mm.analysis.ablations import Run, Suite, read_suite
from mvp_mm.analysis.result_blocks import fill_in
from mvp_mm.analysis.results import command_line, hardware
from mvp_mm.utils.atomic import write_text
from mvp_mm.version import __version__

_POLL = 0.2  # seconds


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--recipe-file', default='configs/mvplm/ablations/synthetic.yml',
                        help='YAML file with recipes and tables')
    parser.add_argument('--recipes', nargs='+', metavar='NAME', help='default all')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--steps', type=int, default=1650, help='training steps of each run')
    parser.add_argument('--images', type=int, default=300,
                        help='first held-out images of each dataset to measure')
    parser.add_argument('--jobs', type=int, default=1, help='runs at once')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/ablations'))
    parser.add_argument('--out', type=Path, help='result file to write')
    parser.add_argument('--plot', type=Path, help='picture to write: one row per table')
    parser.add_argument('--page', type=Path, help='Markdown page whose tables are replaced')
    parser.add_argument('--dry-run', action='store_true',
                        help='print the commands and the estimated time, run nothing')
    args = parser.parse_args()
    for name in ('steps', 'images', 'jobs'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} must be positive')
    if (args.plot or args.page) and not args.out:
        parser.error('--plot and --page need --out')
    return args


def plan(suite: Suite, args: argparse.Namespace, names: list[str] | None) -> list[Run]:
    """Plan the runs of recipes, the first seed of all of them first."""
    runs = [Run(recipe, seed, args.steps, args.images, suite.datasets, folder=Path())
            for seed in dict.fromkeys(args.seeds) for recipe in suite.choose(names)]
    for run in runs:
        run.folder = args.work_dir / run.name
    return runs


def show(suite: Suite, runs: list[Run], jobs: int) -> None:
    """Print the commands that are left, and how long they will take."""
    seconds = 0.0
    for run in runs:
        left = run.left()
        seconds += suite.seconds_per_step * run.steps * (len(left) == 2)
        seconds += suite.seconds_per_image * run.images * len(run.datasets) * bool(left)
        for command in left:
            print(shlex.join(command))
    unfinished = sum(bool(run.left()) for run in runs)
    hours = seconds / min(jobs, max(unfinished, 1)) / 3600
    print(f'# {len(runs)} runs, {len(runs) - unfinished} finished; about {hours:.1f} h with '
          f'{jobs} at once (one core each)')


def run_all(runs: list[Run], jobs: int) -> list[Run]:
    """Run the commands of all runs, ``jobs`` at once; returns those that failed."""
    waiting, failed = [(run, run.left()) for run in runs], []
    running: dict[subprocess.Popen, tuple[Run, list[list[str]]]] = {}
    begin = time.monotonic()
    # Whoever ends the suite ends its runs. The signal is only noted: an error at any place could
    # lose sight of a run that has just been started.
    ended: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    try:
        while waiting or running:
            if ended:
                sys.exit('run_ablations: terminated')
            while waiting and len(running) < jobs:
                run, commands = waiting.pop(0)
                if commands:
                    run.start()
                    running[start(run, commands[0])] = run, commands[1:]
            time.sleep(_POLL)
            for process in [p for p in running if p.poll() is not None]:
                run, commands = running.pop(process)
                if process.returncode:
                    failed.append(run)
                    print(f'{run.name}: failed, see {run.folder / "log.txt"}', flush=True)
                elif commands:
                    running[start(run, commands[0])] = run, commands[1:]
                else:
                    print(f'{run.name}: done after {time.monotonic() - begin:.0f} s in all',
                          flush=True)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
        signal.signal(signal.SIGTERM, before)
    return failed


def start(run: Run, command: list[str]) -> subprocess.Popen:
    """Start a command of a run with one thread."""
    threads = dict.fromkeys(('OMP_NUM_THREADS', 'MKL_NUM_THREADS'), '1')
    with open(run.folder / 'log.txt', 'a', encoding='utf-8') as log:
        return subprocess.Popen([sys.executable, *command[1:]], stdout=log,
                                stderr=subprocess.STDOUT, env={**os.environ, **threads})


def write(suite: Suite, runs: list[Run], args: argparse.Namespace) -> None:
    """Write result file, plot and page from the finished runs."""
    figures, results = collect(suite, runs)
    if not figures:
        raise ValueError('no run is finished, nothing to write')
    content = dict(
        command=command_line(), version=__version__,
        commit=sorted({result['commit'] or '' for result in results}),
        changed=any(result['changed'] for result in results), hardware=hardware(),
        settings=dict(recipe_file=str(args.recipe_file), steps=args.steps, images=args.images),
        figures=figures)
    write_text(args.out, json.dumps(content, indent=1, ensure_ascii=False) + '\n')
    if args.plot:
        plot(suite, figures, args.plot)
    if args.page:
        tables = table_blocks(suite, figures, args.out.as_posix())
        page = insert_tables(args.page.read_text(encoding='utf-8'), tables)
        write_text(args.page, fill_in(page, Path('.')))
    print(f'{len(results)} runs of {len(figures)} recipes in {args.out}')


def plot(suite: Suite, figures: dict[str, Any], path: Path) -> None:
    """Draw one row of panels per table and one panel per column: means, deviations as bars."""
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    tables = [(table['title'], {head: figures[name] for head, name in table['rows'].items()
                                if name in figures}) for table in suite.tables.values()]
    heights = [0.8 + 0.22 * len(shown) for _, shown in tables]
    figure, axes = plt.subplots(
        len(tables), len(suite.columns), figsize=(2.4 * len(suite.columns) + 2, sum(heights)),
        height_ratios=heights, sharey='row', squeeze=False)
    for row, (title, shown) in zip(axes, tables, strict=True):
        places = range(len(shown))
        for axis, (heading, metric) in zip(row, suite.columns.items(), strict=True):
            means = [found['mean'][metric] for found in shown.values()]
            axis.errorbar(means, places, xerr=[f['deviation'][metric] for f in shown.values()],
                          fmt='o', capsize=4)
            if means:
                widen(axis, means)
            axis.set_title(heading, fontsize=9)
            axis.grid(alpha=0.3)
        row[0].set_yticks(places, shown, fontsize=8)
        row[0].set_ylim(len(shown) - 0.5, -0.5)
        row[0].set_ylabel(title.replace(' (', '\n('), fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def widen(axis: Any, means: list[float]) -> None:
    """Show at least four percent points, so that hundredths do not look like a difference."""
    middle, half = (min(means) + max(means)) / 2, max(2.0, (max(means) - min(means)) * 0.65)
    axis.set_xlim(middle - half, middle + half)


def main() -> None:
    """Run the suite."""
    args = parse_args()
    try:
        suite = read_suite(args.recipe_file)
        runs = plan(suite, args, args.recipes)
        if args.dry_run:
            show(suite, runs, args.jobs)
            return
        failed = run_all(runs, args.jobs)
        if args.out:
            # Recipes of an earlier call stay in the tables.
            write(suite, plan(suite, args, None), args)
    except (OSError, ValueError) as error:
        sys.exit(f'run_ablations: error: {error}')
    if failed:
        sys.exit(f'run_ablations: error: {len(failed)} of {len(runs)} runs failed: '
                 f'{", ".join(run.name for run in failed)}')


if __name__ == '__main__':
    main()
