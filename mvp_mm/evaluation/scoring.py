# Copyright (c) mvp_mm authors. All rights reserved.
"""Evaluation of several metrics, of which one may fail without losing the others' figures."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mmengine.dist import all_gather_object
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.logging import MMLogger
from mmengine.structures import BaseDataElement


class TolerantEvaluator(Evaluator):
    """Goes on without a metric that cannot take a sample.

    Attributes:
        failures: What went wrong, by the position of the metric.
    """

    def __init__(self, metrics: dict | BaseMetric | Sequence[dict | BaseMetric]) -> None:
        super().__init__(metrics)
        self.failures: dict[int, str] = {}

    def process(self, data_samples: Sequence[BaseDataElement], data_batch: Any = None) -> None:
        """Hand a batch to every metric that has not failed.

        Args:
            data_samples: The outputs, data samples or dicts.
            data_batch: The collated batch.
        """
        samples = [sample.to_dict() if isinstance(sample, BaseDataElement) else sample
                   for sample in data_samples]
        for position, metric in enumerate(self.metrics):
            if position in self.failures:
                continue
            try:
                metric.process(data_batch, samples)
            except Exception as error:  # a metric may be anybody's code
                self.failures[position] = _told(metric, error)


def meta_of(dataset: Any) -> dict[str, Any] | None:
    """Describe a dataset to its metrics.

    Args:
        dataset: A dataset, or a wrapper of several such as ``ConcatDataset``.

    Returns:
        Its meta information and, as ``source``, what messages name it by: its own file, not a
        part of the meta information, which must be the same in all members of a wrapper. None
        for a dataset without meta information.
    """
    meta = getattr(dataset, 'metainfo', None)
    if meta is None:
        return None
    members = getattr(dataset, 'datasets', [dataset])
    sources = [member.source for member in members if hasattr(member, 'source')]
    return dict(meta, source=', '.join(dict.fromkeys(sources))) if sources else meta


def evaluate_metrics(evaluator: Evaluator, size: int) -> tuple[dict[str, float], list[str]]:
    """Evaluate every metric of a dataset, those that fail too.

    Args:
        evaluator: The metrics, after all samples were processed.
        size: Number of items of the dataset.

    Returns:
        The figures, and what went wrong, one message per metric that has failed; both are the
        same in all processes.
    """
    figures: dict[str, float] = {}
    problems: list[str] = []
    # What one process could not take, no process summarises: they wait for each other.
    failures: dict[int, str] = {}
    for told in all_gather_object(getattr(evaluator, 'failures', {})):
        failures = {**told, **failures}
    for position, metric in enumerate(evaluator.metrics):
        if position in failures:
            problems.append(failures[position])
            metric.results.clear()
            continue
        try:
            found = _evaluate(metric, size)
        except Exception as error:  # a metric may be anybody's code
            problems.append(_told(metric, error))
            metric.results.clear()
            continue
        repeated = sorted(figures.keys() & found.keys())
        if repeated:
            problems.append(f'{type(metric).__name__}: another metric has the names {repeated} '
                            'too; give one of them another prefix')
            continue
        figures.update(found)
    return figures, list(dict.fromkeys(problems))


def _evaluate(metric: BaseMetric, size: int) -> dict[str, float]:
    """Evaluate a metric; an error of the first process, which summarises, is raised in all."""
    original = metric.compute_metrics
    metric.compute_metrics = _guarded(metric, original)
    try:
        found = metric.evaluate(size)
    finally:
        del metric.compute_metrics  # the one of the class again
    for value in found.values():
        if isinstance(value, Exception):
            raise value
    return found


def _guarded(metric: BaseMetric, compute: Callable) -> Callable:
    """``compute_metrics`` that returns an error in place of raising it."""
    def compute_or_tell(results: list) -> dict[str, Any]:
        try:
            return compute(results)
        except Exception as error:
            # Sent to the other processes: of a plain type, with its text.
            return dict(failure=ValueError(_told(metric, error)))
    return compute_or_tell


def _told(metric: BaseMetric, error: Exception) -> str:
    """An error's text; what is likely a fault of the code has a type and a traceback in the log."""
    if isinstance(error, (KeyError, ValueError)):
        # A KeyError's own text is in quotation marks.
        return str(error.args[0] if len(error.args) == 1 else error)
    MMLogger.get_current_instance().error(f'{type(metric).__name__} failed', exc_info=error)
    return f'{type(metric).__name__}: {type(error).__name__}: {error}'
