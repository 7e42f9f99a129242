# Copyright (c) mvp_mm authors. All rights reserved.
"""Evaluation of several metrics, of which one may fail without losing the others' figures."""
from __future__ import annotations

from mmengine.evaluator import Evaluator


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
    for metric in evaluator.metrics:
        try:
            found = metric.evaluate(size)
        except (KeyError, ValueError) as error:
            # A KeyError's own text is in quotation marks.
            problems.append(str(error.args[0] if len(error.args) == 1 else error))
            metric.results.clear()
            continue
        repeated = sorted(figures.keys() & found.keys())
        if repeated:
            problems.append(f'{type(metric).__name__}: another metric has the names {repeated} '
                            'too; give one of them another prefix')
            continue
        figures.update(found)
    return figures, problems
