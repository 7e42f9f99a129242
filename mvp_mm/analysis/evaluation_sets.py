# Copyright (c) mvp_mm authors. All rights reserved.
"""Chooses test datasets of a config by name."""
from __future__ import annotations

from mmengine.config import Config

from mvp_mm.engine.config_error import ConfigError


def choose_test_sets(cfg: Config, only: list[str] | None) -> dict[str, tuple[dict, dict | list]]:
    """Choose the data loader and metrics of each dataset to score; '' names the only one.

    Raises:
        ConfigError: If the config has no such dataset, no metric for one, or tests nothing.
    """
    loaders, metrics = cfg.get('test_dataloader'), cfg.get('test_evaluator')
    if not loaders or not metrics:
        raise ConfigError(f'{cfg.filename}: test_dataloader and test_evaluator are needed')
    if 'dataset' in loaders:
        if only:
            raise ConfigError('--only: the config tests one dataset, which has no name')
        return {'': (loaders, metrics)}
    unknown = sorted({*(only or ()), *metrics} - loaders.keys())
    if unknown:
        raise ConfigError(f'{cfg.filename}: test_dataloader has no {unknown[0]}; it has '
                          f'{sorted(loaders)}')
    lacking = sorted({*(only or loaders)} - metrics.keys())
    if lacking:
        raise ConfigError(f'{cfg.filename}: test_evaluator has no {lacking[0]}')
    return {name: (loaders[name], metrics[name]) for name in only or loaders}
