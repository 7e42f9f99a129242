# Copyright (c) mvp_mm authors. All rights reserved.
"""Check the sections of a config that mmengine reads itself, which have no component to ask."""
from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from mmengine.config import Config

from mvp_mm.engine.config_error import hint, walk_dicts
from mvp_mm.engine.config_values import fits, type_name
from mvp_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS

_NO_VALUE = object()
# Types by the paths of their keys.
_TYPES: dict[str, Any] = {
    **dict.fromkeys((
        'model', 'env_cfg', 'env_cfg.mp_cfg', 'env_cfg.dist_cfg', 'randomness', 'default_hooks',
        'train_cfg', 'optim_wrapper', 'log_processor', 'inferencer', 'inferencer.tasks'), dict),
    **dict.fromkeys(('val_cfg', 'test_cfg', 'visualizer', 'model_wrapper_cfg'), dict | None),
    **dict.fromkeys((
        'resume', 'env_cfg.cudnn_benchmark', 'randomness.deterministic',
        'randomness.diff_rank_seed', 'find_unused_parameters'), bool),
    **dict.fromkeys(('default_scope', 'work_dir', 'launcher', 'env_cfg.dist_cfg.backend'), str),
    **dict.fromkeys(('load_from', 'experiment_name', 'sync_bn'), str | None),
    **dict.fromkeys(('env_cfg.mp_cfg.opencv_num_threads', 'env_cfg.resource_limit'), int),
    'env_cfg.mp_cfg.mp_start_method': Literal['fork', 'spawn', 'forkserver'],
    'randomness.seed': int | None,
    'custom_hooks': list | tuple | None,
    'param_scheduler': list | tuple | dict | None,
    'log_level': str | int,
}


def section_problems(cfg: Config, modes: Sequence[str] = ()) -> Iterator[str]:
    """Find values of another type, levels, constructors and loaders that cannot be.

    Args:
        cfg: The config.
        modes: Which of 'train', 'val' and 'test' will run, and so need their data loaders.
    """
    for path, wanted in _TYPES.items():
        value = _at(cfg, path)
        if value is not _NO_VALUE and not fits(value, wanted):
            yield f'{path}: must be {type_name(wanted)}, got {value!r}'
    level = cfg.get('log_level')
    if isinstance(level, str) and not isinstance(logging.getLevelName(level), int):
        yield f"log_level: '{level}' is no level, such as INFO"
    constructor = _at(cfg, 'optim_wrapper.constructor')
    if constructor is not _NO_VALUE and not (
            isinstance(constructor, str) and OPTIM_WRAPPER_CONSTRUCTORS.get(constructor)):
        yield (f'optim_wrapper.constructor: {constructor!r} is no constructor of optimizers'
               f'{hint(str(constructor), OPTIM_WRAPPER_CONSTRUCTORS.module_dict)}')
    yield from _loader_problems(cfg, modes)
    tasks = _at(cfg, 'inferencer.tasks')
    for name, task in tasks.items() if isinstance(tasks, dict) else ():
        if not isinstance(task, dict) or 'type' not in task:
            yield f'inferencer.tasks.{name}: must be a dict with a type, got {task!r}'


def _loader_problems(cfg: Config, modes: Sequence[str]) -> Iterator[str]:
    """Find data loaders that load nothing and datasets that ask nothing."""
    for mode in ('train', 'val', 'test'):
        where = f'{mode}_dataloader'
        loader = cfg.get(where)
        # A part of a config, such as the default runtime, has no model and runs nothing.
        needed = loader is not None or 'model' in cfg and mode in modes and mode != 'val'
        if needed and not (isinstance(loader, dict) and loader):
            yield f'{where}: must be a dict with a dataset or a mix, got {loader!r}'
        for path, dataset in walk_dicts(loader, where):
            if 'pipeline' in dataset and dataset.get('tasks', _NO_VALUE) in ([], ()):
                yield f'{path}.tasks: must name at least one task, got none'


def _at(cfg: Config, path: str) -> Any:
    """The value at a path, or ``_NO_VALUE`` where a key or the dict around it is missing."""
    value: Any = cfg
    for key in path.split('.'):
        if not isinstance(value, (dict, Config)) or key not in value:
            return _NO_VALUE
        value = value[key]
    return value
