# Copyright (c) mvp_mm authors. All rights reserved.
"""Check of a whole dataset."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from typing import Any

from tqdm import tqdm

from mvp_mm.datasets.checks.formats import SCANS, Source
from mvp_mm.datasets.checks.jobs import ImageJob, JobResult, run_job
from mvp_mm.datasets.checks.report import Report
from mvp_mm.registry import DATASETS

_CHUNK = 32


def check_dataset(cfg: dict[str, Any], name: str = '', workers: int = 0,
                  progress: bool = False) -> Report:
    """Check every record and every file of a dataset, then that its reader opens it.

    Caption stores and held-out references are not looked at.

    Args:
        cfg: Config of a dataset.
        name: How the report calls it.
        workers: Processes that check files; 0 checks them in this one.
        progress: Show a progress bar.

    Returns:
        The report.

    Raises:
        ValueError: If the dataset's type cannot be checked.
    """
    if cfg.get('type') not in SCANS:
        raise ValueError(f'datasets of type {cfg.get("type")} cannot be checked, those of '
                         f'{sorted(SCANS)} can')
    report = Report(name or cfg['type'])
    jobs = list(SCANS[cfg['type']](Source(cfg), report))
    results = tqdm(_run(jobs, workers), total=len(jobs), desc=report.name, unit='image',
                   disable=not progress)
    for result in results:
        report.faults += result.faults
        report.notes += result.notes
    report.counts['image files looked at'] = len(jobs)
    _open(cfg, report)
    report.notes = +report.notes
    return report


def _run(jobs: list[ImageJob], workers: int) -> Iterator[JobResult]:
    if not workers:
        yield from map(run_job, jobs)
        return
    with ProcessPoolExecutor(workers) as pool:
        # A few chunks a worker at a time: a map over all jobs would queue every one of them.
        for batch in _batches(jobs, _CHUNK * workers * 4):
            yield from pool.map(run_job, batch, chunksize=_CHUNK)


def _batches(items: Iterable[ImageJob], size: int) -> Iterator[list[ImageJob]]:
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


def _open(cfg: dict[str, Any], report: Report) -> None:
    """Build the dataset without its tasks, pipeline and captions."""
    bare = dict(cfg, tasks=[], pipeline=[], caption_store=None, exclude_refs=[])
    try:
        report.counts['samples read'] = len(DATASETS.build(bare))
    except (ValueError, FileNotFoundError) as error:
        report.add('refused by the reader', cfg['type'], str(error))
