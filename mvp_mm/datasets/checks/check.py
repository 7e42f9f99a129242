# Copyright (c) mvp_mm authors. All rights reserved.
"""Check of a whole dataset."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

from tqdm import tqdm

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.checks.items import ReportedFaults, image_jobs
from mvp_mm.datasets.checks.jobs import ImageJob, JobResult, run_job
from mvp_mm.datasets.checks.report import Report
from mvp_mm.registry import DATASETS

_CHUNK = 32
_REFUSALS = (ValueError, FileNotFoundError)


def can_be_checked(cfg: Any) -> bool:
    """Whether a value is the config of a dataset that reads annotation files."""
    kind = DATASETS.get(cfg['type']) if isinstance(cfg, dict) and isinstance(
        cfg.get('type'), str) else None
    return isinstance(kind, type) and issubclass(kind, PerceptionDataset)


def check_dataset(cfg: dict[str, Any], name: str = '', workers: int = 0,
                  progress: bool = False) -> Report:
    """Check every record and every file of a dataset, then that its reader opens it.

    Records are read by the dataset's own reader, which writes faults down in place of stopping.
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
    if not can_be_checked(cfg):
        raise ValueError(f'datasets of type {cfg.get("type")} cannot be checked, only those that '
                         'read annotation files')
    report = Report(name or cfg['type'])
    # Without its tasks, pipeline and captions.
    bare = dict(cfg, tasks=[], pipeline=[], caption_store=None, exclude_refs=[])
    try:
        dataset = DATASETS.build(dict(bare, faults=partial(ReportedFaults, report=report)))
    except _REFUSALS as error:
        report.add('annotation file', str(cfg.get('ann_file')), str(error))
    else:
        _check_files(dataset, report, workers, progress)
    try:
        report.counts['samples read'] = len(DATASETS.build(bare))
    except _REFUSALS as error:
        report.add('refused by the reader', cfg['type'], str(error))
    report.notes = +report.notes
    return report


def _check_files(dataset: PerceptionDataset, report: Report, workers: int, progress: bool) -> None:
    results = tqdm(_run(image_jobs(dataset), workers), total=len(dataset), desc=report.name,
                   unit='image', disable=not progress)
    for result in results:
        report.faults += result.faults
        report.notes += result.notes
    report.counts['image files looked at'] = len(dataset)


def _run(jobs: Iterable[ImageJob], workers: int) -> Iterator[JobResult]:
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
