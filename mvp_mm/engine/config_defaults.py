# Copyright (c) mvp_mm authors. All rights reserved.
"""Settings of a whole config that stand for longer ones: metrics, validation, captions."""
from __future__ import annotations

import copy

from mmengine.config import Config, ConfigDict

from mvp_mm.engine.config_check import arguments_of
from mvp_mm.engine.config_error import ConfigError, walk_dicts
from mvp_mm.registry import TASKS


def add_common_metrics(cfg: Config) -> None:
    """Append ``common_metrics`` to the metrics of every test dataset that lacks them, in place.

    Args:
        cfg: With datasets written out and metrics given.
    """
    common = cfg.pop('common_metrics', None)
    evaluators = cfg.get('test_evaluator')
    if not common or not isinstance(evaluators, dict) or 'type' in evaluators:
        return
    for name, metrics in evaluators.items():
        metrics = metrics if isinstance(metrics, list) else [metrics]
        present = {metric.get('type') for metric in metrics}
        evaluators[name] = [*metrics, *(copy.deepcopy(metric) for metric in common
                                        if metric['type'] not in present)]


def add_validation(cfg: Config) -> None:
    """Make validation of the test datasets where ``validation_images`` asks for it, in place.

    Each dataset is then validated on a fixed random subset of so many images, with the metrics
    and the precision of the test. A config with a ``val_dataloader`` of its own keeps it.

    Args:
        cfg: With datasets written out and metrics given.

    Raises:
        ConfigError: If the number is none, or there is nothing to validate on.
    """
    number = cfg.pop('validation_images', None)
    if number is None or cfg.get('val_dataloader') is not None:
        return
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ConfigError(f'validation_images: a number of images, 1 or more, or None for no '
                          f'validation; got {number!r}')
    loaders, loop = cfg.get('test_dataloader'), cfg.get('test_cfg') or {}
    if not loaders or loop.get('type') != 'MultiTestLoop':
        raise ConfigError('validation_images needs a test_dataloader of named datasets and '
                          "test_cfg=dict(type='MultiTestLoop'); write val_dataloader, or None")
    cfg['val_dataloader'] = ConfigDict()
    for name, loader in loaders.items():
        sampler = ConfigDict(type='SubsetSampler', number=number)
        cfg.val_dataloader[name] = ConfigDict(copy.deepcopy(dict(loader, sampler=sampler)))
    if cfg.get('val_evaluator') is None:
        cfg['val_evaluator'] = copy.deepcopy(cfg.get('test_evaluator'))
    if cfg.get('val_cfg') is None:
        # An accelerated model answers alone; validation comes between training steps.
        shared = {key: value for key, value in loop.items() if key != 'acceleration'}
        cfg['val_cfg'] = ConfigDict(dict(shared, type='MultiValLoop'))


def give_missing_caption(cfg: Config) -> None:
    """Give ``missing_caption`` to every training task that has captions and does not say, in place.

    Args:
        cfg: With datasets written out.
    """
    rule = cfg.pop('missing_caption', None)
    if rule is None:
        return
    for _, value in walk_dicts(cfg.get('train_dataloader'), 'train_dataloader'):
        kind = value.get('type')
        task = TASKS.get(kind) if isinstance(kind, str) else None
        if task is not None and 'missing_caption' in (arguments_of(task) or ()):
            value.setdefault('missing_caption', rule)
