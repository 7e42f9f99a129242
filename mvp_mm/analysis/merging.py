# Copyright (c) mvp_mm authors. All rights reserved.
"""Joins result files: parts of one measurement, and runs that differ by their seed."""
from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

# What must be equal for two files to tell of the same model, measured in the same way.
_SAME = ('version', 'commit', 'changed', 'hardware', 'weights')


def merge(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Join the parts of one measurement.

    Args:
        parts: Contents of result files by their names. The figures of a part are by variant and
            dataset, no pair of which may be in two parts.

    Returns:
        The content of one file; its commands are listed, its seconds added up.

    Raises:
        ValueError: If parts are of different models or code, or overlap.
    """
    (first_name, first), *_ = parts.items()
    figures: dict[str, dict[str, Any]] = {}
    for name, part in parts.items():
        if part['config']['file'] != first['config']['file']:
            raise ValueError(f'{name} and {first_name} differ in config')
        for key in _SAME:
            if part.get(key) != first.get(key):
                raise ValueError(f'{name} and {first_name} differ in {key}')
        for variant, datasets in part['figures'].items():
            known = figures.setdefault(variant, {})
            twice = sorted(known.keys() & datasets.keys())
            if twice:
                raise ValueError(f'{name}: {variant}/{twice[0]} is in another file too')
            known.update(datasets)
    settings = dict(first['settings'])
    settings['variants'] = {key: value for part in parts.values()
                            for key, value in part['settings']['variants'].items()}
    # A part's config holds its own datasets alone.
    hashes = sorted({part['config']['sha256'] for part in parts.values()})
    return dict(first, config=dict(file=first['config']['file'], sha256=hashes),
                command=[part['command'] for part in parts.values()], settings=settings,
                seconds=sum(part.get('seconds', 0) for part in parts.values()), figures=figures)


def update(whole: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the figures of datasets that were measured again, as with other settings.

    Args:
        whole: Content of a result file.
        part: Content of a later one about the same weights, with all variants of its datasets.

    Returns:
        ``whole`` with the datasets' new figures; ``updates`` says by dataset what made them.

    Raises:
        ValueError: If the weights or the images differ, or a variant is missing.
    """
    for key, old, new in (
            ('weights', whole['weights']['sha256'], part['weights']['sha256']),
            ('images', whole['settings']['images'], part['settings']['images']),
            ('variants', sorted(whole['figures']), sorted(part['figures']))):
        if old != new:
            raise ValueError(f'{key} differ: {old} and, measured again, {new}')
    datasets = sorted({name for found in part['figures'].values() for name in found})
    lacking = [f'{variant}/{name}' for variant, found in part['figures'].items()
               for name in datasets if name not in found or name not in whole['figures'][variant]]
    if lacking:
        raise ValueError(f'{lacking[0]} is not in both files')
    made = {key: part[key] for key in (
        'command', 'version', 'commit', 'changed', 'hardware', 'config', 'settings')}
    return dict(
        whole, updates={**whole.get('updates', {}), **dict.fromkeys(datasets, made)},
        figures={variant: {**found, **part['figures'][variant]}
                 for variant, found in whole['figures'].items()})


def over_seeds(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Average nested figures of several runs.

    Args:
        runs: Nested dicts with the same keys and numbers at the ends.

    Returns:
        ``mean`` and ``deviation`` (of the sample; 0 of a single run), nested alike.
    """
    return dict(mean=_apply(statistics.fmean, runs),
                deviation=_apply(lambda v: statistics.stdev(v) if len(v) > 1 else 0.0, runs))


def _apply(function: Any, runs: Sequence[Any]) -> Any:
    if isinstance(runs[0], Mapping):
        return {key: _apply(function, [run[key] for run in runs]) for key in runs[0]}
    return round(float(function([float(run) for run in runs])), 4)


def last_losses(history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Average each loss over the last tenth of a run.

    Args:
        history: Lines of a training log with ``loss`` and ``<set>.loss_<name>``, in order; the
            sets of a name are added up.

    Returns:
        By name, ``total`` among them.
    """
    last = history[-max(1, len(history) // 10):]
    losses = dict(total=statistics.fmean(line['loss'] for line in last))
    for line in last:
        for key, value in line.items():
            name = key.rpartition('.')[2]
            if name.startswith('loss_'):
                name = name.removeprefix('loss_')
                losses[name] = losses.get(name, 0.0) + value / len(last)
    return losses


def loss_shares(history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Tell the share of each of :func:`last_losses` in the total, in percent."""
    losses = last_losses(history)
    total = losses.pop('total')
    return {name: round(100 * value / total, 2) for name, value in losses.items()}
