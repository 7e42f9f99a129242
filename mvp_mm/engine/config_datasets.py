# Copyright (c) mvp_mm authors. All rights reserved.
"""Write out the datasets, pipelines and metrics that a config's data loaders name.

A config knows datasets by name (``datasets``), each with the metrics that score it, and pipelines
by name (``pipelines``). A data loader says ``dataset='refcoco_val'``, or in training
``mix=dict(coco_panoptic_train=2, refcoco_train=1)``: names with their shares of the samples. What
is written in full stays as it is.
"""
from __future__ import annotations

import copy
from typing import Any

from mmengine.config import Config, ConfigDict

from mvp_mm.engine.config_error import ConfigError, hint, named_loaders, walk_dicts

MODES = ('train', 'val', 'test')
# Pipelines of ``pipelines`` for datasets that name none.
_PIPELINES = dict(train='train', val='test', test='test')
# Datasets around others; the pipeline is that of the inner ones.
_WRAPPERS = ('ConcatDataset', 'RepeatDataset', 'ClassBalancedDataset')


def expand_datasets(cfg: Config) -> None:
    """Write out names of datasets and pipelines, and metrics where none are given, in place.

    Args:
        cfg: With any of ``datasets``, ``pipelines`` and ``test_loader_defaults`` at top level.

    Raises:
        ConfigError: If a name is unknown, what it stands for cannot be, used or not, or a loader
            gives both ``mix`` and ``dataset``.
    """
    _check_named(cfg)
    for mode in MODES:
        where = f'{mode}_dataloader'
        for path, loader in named_loaders(cfg.get(where), where):
            if not isinstance(loader, dict):
                continue  # named by the check
            if loader.get('mix') is not None:
                _expand_mix(cfg, loader, path)
            loader.pop('mix', None)
            metrics: list[dict] = []
            if loader.get('dataset') is not None:
                loader['dataset'] = _dataset(
                    cfg, loader['dataset'], f'{path}.dataset', _PIPELINES[mode], metrics)
            if mode != 'train' and metrics:
                _give_metrics(cfg, mode, path, metrics)
    inferencer = cfg.get('inferencer')
    if inferencer and (isinstance(inferencer.get('pipeline'), str)
                       or 'pipeline' not in inferencer and cfg.get('pipelines')):
        name = inferencer.get('pipeline', 'inference')
        inferencer['pipeline'] = _pipeline(cfg, name, 'inferencer.pipeline')


def named_datasets(cfg: Config) -> dict[str, dict]:
    """List the entries of ``datasets``: what reads the files, without pipelines and metrics."""
    found = {}
    _check_named(cfg)
    for name, entry in (cfg.get('datasets') or {}).items():
        if entry is not None:
            found[name] = _dataset(cfg, name, f'datasets.{name}', None, [])
    return found


def _check_named(cfg: Config) -> None:
    """Refuse datasets and pipelines of another form; None takes an inherited one out."""
    for name, entry in (cfg.get('datasets') or {}).items():
        if entry is not None:
            _entry_of(cfg, name)
    for name, steps in (cfg.get('pipelines') or {}).items():
        if steps is not None:
            _steps_of(cfg, name)
    for key in ('datasets', 'pipelines'):
        for path, part in walk_dicts(cfg.get(key), key):
            kind = part.get('type', '')
            if not isinstance(kind, str) and not callable(kind):
                raise ConfigError(f'{path}.type: must be the name of a type, got {kind!r}')


def _entry_of(cfg: Config, name: str) -> dict:
    entry = cfg.datasets[name]
    if not isinstance(entry, dict):
        raise ConfigError(f'datasets.{name}: must be a dict with a type, got {entry!r}')
    return entry


def _steps_of(cfg: Config, name: str) -> list[str | dict]:
    steps = cfg.pipelines[name]
    if not isinstance(steps, (list, tuple)):
        raise ConfigError(f'pipelines.{name}: must be a list of steps, got {steps!r}')
    for position, step in enumerate(steps):
        if not isinstance(step, (str, dict)):
            raise ConfigError(f'pipelines.{name}[{position}]: must be a dict with a type or the '
                              f'name of a pipeline, got {step!r}')
    return list(steps)


def _expand_mix(cfg: Config, loader: dict, path: str) -> None:
    """Turn shares by name into a concatenation and the sampler of these shares."""
    if loader.get('dataset') is not None:
        raise ConfigError(f'{path}: has both mix and dataset; set the one you do not mean to None')
    if not isinstance(loader['mix'], dict):
        raise ConfigError(f'{path}.mix: must be a dict of shares by name, got {loader["mix"]!r}')
    shares = dict(loader['mix'])
    for name, share in shares.items():
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not share >= 0:
            raise ConfigError(f'{path}.mix.{name}: a share is a number, 0 or more, got {share!r}')
    shares = {name: share for name, share in shares.items() if share}
    if not shares:
        raise ConfigError(f'{path}.mix: no dataset has a share')
    if len(shares) == 1:
        loader['dataset'], = shares
        return
    ratios, own = list(shares.values()), dict(loader.get('sampler') or {})
    if list(own.get('ratios', ratios)) != ratios:
        raise ConfigError(f'{path}.sampler.ratios={own["ratios"]} differs from {path}.mix='
                          f'{shares}; write the mix alone')
    loader['sampler'] = ConfigDict(dict(dict(type='RatioSampler', ratios=ratios), **own))
    loader['dataset'] = ConfigDict(
        type='ConcatDataset', ignore_keys=['classes', 'thing_flags'], datasets=list(shares))


def _dataset(cfg: Config, entry: Any, path: str, pipeline: str | None,
             metrics: list[dict]) -> Any:
    """Write out one dataset.

    Args:
        cfg: The config, for its ``datasets`` and ``pipelines``.
        entry: A name, or a dataset config.
        path: Where it stands.
        pipeline: Name of the pipeline if the dataset names none; None to leave pipelines out.
        metrics: Is given the metrics of the dataset.
    """
    if isinstance(entry, str):
        known = cfg.get('datasets') or {}
        if entry not in known:
            raise ConfigError(f"{path}: no dataset '{entry}' in datasets{hint(entry, known)}")
        entry = copy.deepcopy(_entry_of(cfg, entry))
    if not isinstance(entry, dict):
        return entry
    found = entry.pop('metrics', None)
    if found is not None and not (isinstance(found, (list, tuple)) and all(
            isinstance(one, dict) and isinstance(one.get('type'), str) for one in found)):
        raise ConfigError(f'{path}.metrics: must be a list of dicts with a type, got {found!r}')
    if found and not metrics:
        metrics.extend(found)
    wraps = entry.get('type') in _WRAPPERS
    inner = pipeline if wraps else None
    for key in ('datasets', 'dataset'):
        if isinstance(entry.get(key), list):
            entry[key] = [_dataset(cfg, child, f'{path}.{key}[{position}]', inner, metrics)
                          for position, child in enumerate(entry[key])]
        elif isinstance(entry.get(key), (str, dict)):
            entry[key] = _dataset(cfg, entry[key], f'{path}.{key}', inner, metrics)
    if pipeline is None and isinstance(entry.get('pipeline'), str):
        entry.pop('pipeline')
    elif isinstance(entry.get('pipeline'), str):
        entry['pipeline'] = _pipeline(cfg, entry['pipeline'], f'{path}.pipeline')
    elif pipeline is not None and not wraps and 'pipeline' not in entry and cfg.get('pipelines'):
        entry['pipeline'] = _pipeline(cfg, pipeline, f'{path}.pipeline')
    return entry


def _pipeline(cfg: Config, name: str, path: str, outer: tuple[str, ...] = ()) -> list[dict]:
    """Write out a pipeline; a name among its steps stands for the steps of that pipeline."""
    known = cfg.get('pipelines') or {}
    if name not in known or name in outer:
        reason = 'holds itself' if name in outer else f'is not in pipelines{hint(name, known)}'
        raise ConfigError(f"{path}: pipeline '{name}' {reason}")
    steps: list[dict] = []
    for step in _steps_of(cfg, name):
        steps += (_pipeline(cfg, step, f'pipelines.{name}', (*outer, name))
                  if isinstance(step, str) else [copy.deepcopy(step)])
    return steps


def _give_metrics(cfg: Config, mode: str, path: str, metrics: list[dict]) -> None:
    """Score a dataset by its own metrics unless the config's evaluator says otherwise."""
    key = f'{mode}_evaluator'
    if path == f'{mode}_dataloader':
        if not cfg.get(key):
            cfg[key] = metrics
        return
    name = path.partition('.')[2]
    if cfg.get(key) is None:
        cfg[key] = ConfigDict()
    if isinstance(cfg[key], dict) and 'type' not in cfg[key]:
        cfg[key].setdefault(name, metrics)


def fill_loader_defaults(cfg: Config) -> None:
    """Give every data loader what it cannot do without, in place.

    The collation that keeps images and instructions together; in training an endless shuffled
    sampler, or a shuffled one where epochs are counted; in validation and testing one that
    repeats no sample; ``persistent_workers`` in training alone, and off without workers, however
    it was inherited.
    """
    loop = cfg.get('train_cfg') or {}
    by_iters = loop.get('max_iters') is not None or loop.get('type') == 'IterBasedTrainLoop'
    for mode in MODES:
        where = f'{mode}_dataloader'
        for _, loader in named_loaders(cfg.get(where), where):
            if not isinstance(loader, dict):
                continue
            if mode == 'train':
                sampler = dict(type='InfiniteSampler' if by_iters else 'DefaultSampler',
                               shuffle=True)
            else:
                for key, value in (cfg.get('test_loader_defaults') or {}).items():
                    loader.setdefault(key, copy.deepcopy(value))
                sampler = dict(type='DefaultSampler', shuffle=False, round_up=False)
            loader.setdefault('batch_size', 1)
            loader.setdefault('num_workers', 0)
            for key, default in (('collate_fn', dict(type='perception_collate')),
                                 ('sampler', sampler)):
                if loader.get(key) is None:
                    loader[key] = ConfigDict(default)
            loader.setdefault('persistent_workers', mode == 'train')
            if not loader['num_workers']:
                loader['persistent_workers'] = False
                loader.pop('prefetch_factor', None)
