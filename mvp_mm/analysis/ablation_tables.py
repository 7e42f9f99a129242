# Copyright (c) mvp_mm authors. All rights reserved.
"""Averages the runs of an ablation suite and writes their tables."""
from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from mvp_mm.analysis.ablations import Run, Suite

_TABLES = re.compile(r'(<!-- ablations -->\n).*?(<!-- end ablations -->)', re.DOTALL)


def collect(suite: Suite, runs: Sequence[Run]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Average the finished runs of each recipe.

    Args:
        suite: Names the metrics.
        runs: Runs of the suite, finished or not.

    Returns:
        By recipe: ``mean`` and sample ``deviation`` (0 of a single run) by metric, and ``seeds``;
        and the contents of the result files.

    Raises:
        ValueError: If a result lacks a metric.
    """
    figures: dict[str, Any] = {}
    results = []
    for recipe in dict.fromkeys(run.recipe.name for run in runs):
        found = {run.seed: content for run in runs if run.recipe.name == recipe
                 if (content := run.measured()) is not None}
        if not found:
            continue
        results += found.values()
        variant = suite.recipes[recipe].variant
        values = {metric: [_metric(content['figures'][variant], metric, recipe)
                           for content in found.values()] for metric in suite.columns.values()}
        figures[recipe] = dict(
            seeds=sorted(found),
            mean={key: round(statistics.fmean(v), 4) for key, v in values.items()},
            deviation={key: round(statistics.stdev(v), 4) if len(v) > 1 else 0.0
                       for key, v in values.items()})
    return figures, results


def _metric(figures: Mapping[str, Any], metric: str, recipe: str) -> float:
    dataset, _, name = metric.partition('/')
    if name not in figures[dataset]:
        raise ValueError(f'{recipe}: {metric} was not measured')
    return float(figures[dataset][name])


def table_blocks(suite: Suite, figures: Mapping[str, Any], result_file: str) -> str:
    """Write the tables as blocks for :func:`~mvp_mm.analysis.result_blocks.fill_in`.

    A recipe without a finished run has a row that says so; a single seed has no deviation.

    Args:
        suite: Tables and columns.
        figures: From :func:`collect`.
        result_file: Path of the result file from the repository's root.
    """
    blocks = []
    for table in suite.tables.values():
        lines = [f'| | {" | ".join(suite.columns)} | seeds |',
                 '|---' * (len(suite.columns) + 2) + '|']
        for heading, recipe in table['rows'].items():
            cells = [_cell(figures.get(recipe), recipe, metric)
                     for metric in suite.columns.values()]
            seeds = f'{{{recipe}/seeds}}' if recipe in figures else ''
            lines.append(f'| {heading} | {" | ".join(cells)} | {seeds} |')
        body = '\n'.join(lines)
        blocks.append(f'**{table["title"]}**\n\n<!-- figures {result_file}\n{body}\n-->\n'
                      '<!-- end figures -->\n')
    return '\n'.join(blocks)


def _cell(found: Mapping[str, Any] | None, recipe: str, metric: str) -> str:
    if found is None:
        return 'not measured'
    mean = f'{{{recipe}/mean/{metric}}}'
    return mean if len(found['seeds']) < 2 else f'{mean} ± {{{recipe}/deviation/{metric}}}'


def insert_tables(page: str, tables: str) -> str:
    """Put tables between ``<!-- ablations -->`` and ``<!-- end ablations -->`` of a page.

    Raises:
        ValueError: If the page has no such place.
    """
    if not _TABLES.search(page):
        raise ValueError('no place for the tables: <!-- ablations --> … <!-- end ablations -->')
    return _TABLES.sub(lambda match: f'{match[1]}{tables}{match[2]}', page)
