# Copyright (c) mvp_mm authors. All rights reserved.
"""Short lines on the screen, every single term in the files, and results as a table."""
from __future__ import annotations

import datetime
import io
import resource
import sys
from typing import Any

from mmengine.runner import LogProcessor, Runner
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mvp_mm.registry import LOG_PROCESSORS

MAX_LINE = 400
_TABLE_WIDTH, _RESULTS_WIDTH = 100, 60


@LOG_PROCESSORS.register_module()
class PerceptionLogProcessor(LogProcessor):
    """Logs one value per kind of loss; scalars files and TensorBoard get every term.

    A line has eta, time, data_time, memory, lr, grad_norm, loss, and for every kind of loss
    (llm, word, mask_bce, …) the sum of its terms over all supervised sets: the encoder's
    proposals, every decoder layer and denoising. The sums add up to the loss; kinds that are 0
    are left out. A line has at most :data:`MAX_LINE` characters; what does not fit stands in the
    files.

    Training histories keep what the longest window needs, so neither a step nor a checkpoint
    grows with the length of the run.

    Args:
        window_size: Steps that values are averaged over.
        by_epoch: Whether steps are counted in epochs.
        **kwargs: Arguments of :class:`mmengine.runner.LogProcessor`.
    """

    def __init__(self, window_size: int = 10, by_epoch: bool = False, **kwargs: Any) -> None:
        super().__init__(window_size=window_size, by_epoch=by_epoch, **kwargs)

    def get_log_after_iter(self, runner: Runner, batch_idx: int,
                           mode: str) -> tuple[dict[str, Any], str]:
        """Format a step.

        Args:
            runner: The runner.
            batch_idx: Number of the batch in its loop, from 0.
            mode: ``'train'``, ``'val'`` or ``'test'``.

        Returns:
            Every value for the files, and the line for the screen.
        """
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        if mode != 'train':
            return tag, line
        self._bound_histories(runner)
        # With a hierarchy, names start with the mode.
        values = {key.removeprefix(f'{mode}/'): value for key, value in tag.items()}
        tag.setdefault('memory', _peak_memory())
        values.setdefault('memory', tag['memory'])
        return tag, self._line(line.split(']  ')[0] + ']', values, runner)

    def _line(self, head: str, values: dict[str, Any], runner: Runner) -> str:
        """Build the line; kinds of losses come last, as many as fit."""
        parts = [head]
        eta = runner.message_hub.runtime_info.get('eta')
        if eta is not None:
            parts.append(f'eta: {datetime.timedelta(seconds=int(eta))}')
        for key, form in (('time', '.3f'), ('data_time', '.3f'), ('memory', 'd'), ('lr', '.3e'),
                          ('grad_norm', '.4g'), ('loss', '.4f')):
            if key in values:
                parts.append(f'{key}: {values[key]:{form}}')
        # A kind at exactly 0 was not asked for: masks of tasks without masks.
        kinds = [f'{kind}: {value:.4g}' for kind, value in sum_by_kind(values).items() if value]
        line = '  '.join(parts)
        for position, kind in enumerate(kinds):
            rest = f'  (+{len(kinds) - position} more)'
            if len(line) + 2 + len(kind) + len(rest) > MAX_LINE:
                return line + rest
            line += f'  {kind}'
        return line

    def _bound_histories(self, runner: Runner) -> None:
        """Let histories of training forget what no window looks at."""
        windows = [self.window_size, *(
            cfg['window_size'] for cfg in self.custom_cfg
            if isinstance(cfg.get('window_size'), int))]
        # Windows over an epoch or the whole run need whole histories.
        whole = {cfg['data_src'] for cfg in self.custom_cfg
                 if isinstance(cfg.get('window_size'), str)}
        for key, history in runner.message_hub.log_scalars.items():
            if key.startswith('train/') and key.removeprefix('train/') not in whole:
                history.max_length = max(windows)

    def get_log_after_epoch(self, runner: Runner, batch_idx: int, mode: str,
                            with_non_scalar: bool = False) -> tuple[dict[str, Any], str]:
        """Format the results of a validation or a test.

        Args:
            runner: The runner.
            batch_idx: Number of batches.
            mode: ``'val'`` or ``'test'``.
            with_non_scalar: Whether values that are no numbers are returned too.

        Returns:
            Every value for the files, and the table for the screen.
        """
        tag, line = super().get_log_after_epoch(runner, batch_idx, mode, with_non_scalar)
        results = {key: value for key, value in tag.items()
                   if key.split('/')[-1] not in ('time', 'data_time')}
        return tag, line.split(']  ')[0] + ']\n' + results_table(results)


def sum_by_kind(values: dict[str, Any]) -> dict[str, float]:
    """Sum loss terms over the supervised sets.

    Args:
        values: Logged values; ``d0.loss_word`` is a term of the kind ``word``.

    Returns:
        Sums by kind, in the order of their first terms.
    """
    kinds: dict[str, float] = {}
    for key, value in values.items():
        name = key.rsplit('.', 1)[-1]
        if name.startswith('loss_'):
            kind = name.removeprefix('loss_')
            kinds[kind] = kinds.get(kind, 0.0) + float(value)
    return kinds


def results_table(results: dict[str, Any]) -> str:
    """Lay out results as a table with one row per dataset and kind of metric.

    Args:
        results: Values by ``<dataset>/<kind>/…/<metric>``, or ``<kind>/<metric>``.
    """
    rows: dict[tuple[str, str], list[str]] = {}
    for key, value in results.items():
        parts = key.split('/')
        place = (parts[0], '/'.join(parts[1:-1])) if len(parts) > 2 else ('', parts[0])
        shown = f'{value:.2f}' if isinstance(value, float) else str(value)
        rows.setdefault(place, []).append(f'{parts[-1]} {shown}')
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ('dataset', 'metric'):
        table.add_column(name, overflow='fold')
    table.add_column('results', overflow='fold')
    for (dataset, kind), cells in rows.items():
        table.add_row(dataset, kind, _in_lines(cells).replace('[', r'\['))
    text = io.StringIO()
    Console(file=text, width=_TABLE_WIDTH, no_color=True).print(table)
    return '\n'.join(line.rstrip() for line in text.getvalue().strip('\n').splitlines())


def _in_lines(cells: list[str]) -> str:
    """Cells side by side, none broken over two lines."""
    lines = [cells[0]]
    for cell in cells[1:]:
        if len(lines[-1]) + len(cell) + 3 > _RESULTS_WIDTH:
            lines[-1] += ','
            lines.append(cell)
        else:
            lines[-1] += f',  {cell}'
    return '\n'.join(lines)


def _peak_memory() -> int:
    """Peak resident memory of this process in MB, for runs without a GPU."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak / (1024**2 if sys.platform == 'darwin' else 1024))
