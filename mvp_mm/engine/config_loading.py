# Copyright (c) mvp_mm authors. All rights reserved.
"""Read a config, the one way for every command.

A config file says each setting once. :func:`load_config` merges what the command line overrides,
writes out the datasets, pipelines and metrics that a config names, and binds the settings that
several parts need (tokenizer, canvas, room for the response) to all of them.
"""
from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from mvp_mm.engine.config_binding import bind_settings
from mvp_mm.engine.config_datasets import (
    expand_datasets,
    fill_loader_defaults,
    named_datasets,
)
from mvp_mm.engine.config_defaults import (
    add_common_metrics,
    add_validation,
    give_missing_caption,
)
from mvp_mm.engine.config_error import ConfigError
from mvp_mm.utils.named_weights import zoo_models
from mvp_mm.utils.noise import quiet_logger
from mvp_mm.utils.shipped import find_shipped, shipped_root

# Top-level keys that only serve the reading; a loaded config has them written out.
COMPOSING_KEYS = ('datasets', 'pipelines', 'test_loader_defaults', 'task_settings')
_SECTIONS = ('model', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'inferencer',
             'train_cfg', 'optim_wrapper', 'env_cfg', 'default_hooks', 'randomness',
             'log_processor', 'visualizer', 'model_wrapper_cfg')


def load_config(source: str | Path | Config,
                cfg_options: Mapping[str, Any] | None = None) -> Config:
    """Read a config file, merge overrides, and write out what runs.

    Args:
        source: A config file, also a shipped one by name from any folder
            (``configs/mvplm/stage2.py``), or a config in memory, which is copied. A config that
            was loaded before comes back as it is.
        cfg_options: Overrides by dotted path, as from ``--cfg-options``. A path may name what is
            written in the files (``datasets.refcoco_train.data_root``) or what comes of it
            (``train_dataloader.dataset.datasets.1.data_root``).

    Returns:
        The config that runs: without names starting with ``_`` and without
        :data:`COMPOSING_KEYS`.

    Raises:
        ConfigError: If the file cannot be read, a name is unknown, or a setting is written twice
            with different values; the message names both places and both values.
    """
    cfg = _merged(source, cfg_options)
    bind_settings(cfg)
    for key in COMPOSING_KEYS:
        cfg.pop(key, None)
    return cfg


def load_datasets(source: str | Path | Config) -> dict[str, dict]:
    """List the datasets that a config knows by name.

    Args:
        source: A config file with ``datasets``, or such a config in memory.

    Returns:
        Dataset configs by name, without pipelines and metrics: what reads the files.

    Raises:
        ConfigError: See :func:`load_config`.
    """
    return named_datasets(_read(source))


def _read(source: str | Path | Config) -> Config:
    """Read the files alone."""
    if isinstance(source, Config):
        cfg = copy.deepcopy(source)
    else:
        # A config may inherit a shipped one: '{{$MVP_MM_CONFIGS:configs}}/mvplm/stage2.py'.
        os.environ.setdefault('MVP_MM_CONFIGS', str(shipped_root() / 'configs'))
        try:
            path = find_shipped(source)
        except FileNotFoundError as error:
            raise ConfigError(_not_found(source)) from error
        if path.suffix not in ('.py', '.json', '.yaml', '.yml'):
            what = 'weights; the config comes first' if path.suffix in (
                '.pth', '.pt', '.bin', '.safetensors') else f'a file of type {path.suffix!r}'
            raise ConfigError(f'{source} is no config, which is a .py file, but {what}')
        # mmengine tells of every variable that it fills in.
        quiet_logger()
        try:
            cfg = Config.fromfile(path, import_custom_modules=False)
            _import_modules(cfg.get('custom_imports'))
        except ConfigError as error:
            raise ConfigError(f'{source}: {error}') from error
        except Exception as error:  # a config is Python: whatever it raises
            raise ConfigError(f'{source}: {type(error).__name__}: '
                              f'{" ".join(str(error).split())}{_base_hint(error)}') from error
    if 'model' not in cfg and {'annotations', 'images', 'shapes'} & set(cfg):
        raise ConfigError(f'{source} holds labels, no config; this makes a config of them: '
                          f'mvp-mm data {source} --out DIR')
    # Names with an underscore serve the files alone; without them the dumped config is half as
    # long, and nobody overrides one and wonders why nothing changes.
    for name in [name for name in cfg if name.startswith('_')]:
        cfg.pop(name)
    # mmengine leaves the key where the base has nothing to delete.
    _drop_delete_keys(cfg._cfg_dict)
    return cfg


def _not_found(source: str | Path) -> str:
    """Say that there is no such config, and which one may be meant."""
    path = Path(source)
    if path.is_dir():
        configs = sorted(path.glob('*.py'))
        meant = [file for file in configs if file.name == 'config.py'] or configs
        hint = f'; did you mean {meant[0]}?' if meant else ''
        return f'{path} is a folder, not a config{hint}'
    model = zoo_models().get(str(path).lower())
    if model is not None:
        return (f'config not found: {path}; this is a model of the zoo, its config is '
                f'{model["Config"]}')
    root = shipped_root()
    shipped = [str(file.relative_to(root)) for file in (root / 'configs/mvplm').rglob('*.py')]
    same_end = sorted(name for name in shipped if name.endswith(f'/{path}'))
    near = same_end[:1] or get_close_matches(str(path), shipped, n=1, cutoff=0.75)
    return f'config not found: {path}' + (f'; did you mean {near[0]}?' if near else '')


def _import_modules(custom_imports: Any) -> None:
    """Import what a config asks for."""
    if custom_imports is None:
        return
    names = custom_imports.get('imports') if isinstance(custom_imports, dict) else None
    if names is None or not all(isinstance(name, str) for name in (
            names if isinstance(names, (list, tuple)) else [names])):
        raise ConfigError('custom_imports: must be a dict with imports, names of modules, got '
                          f'{custom_imports!r}')
    strict = {key: value for key, value in custom_imports.items() if key != 'imports'}
    if set(strict) - {'allow_failed_imports'} or not all(
            isinstance(value, bool) for value in strict.values()):
        raise ConfigError('custom_imports: takes imports and allow_failed_imports, True or False, '
                          f'got {strict!r}')
    import_modules_from_strings(names, **strict)


def _base_hint(error: Exception) -> str:
    """How to inherit a shipped config, where a base was looked for beside the config."""
    found = re.search(r'configs/(\S+\.py)', str(error)) if isinstance(error, OSError) else None
    if found is None or not (shipped_root() / 'configs' / found[1]).is_file():
        return ''
    return (f"; _base_ is relative to the config's own folder. Inherit a shipped config by "
            f"_base_ = '{{{{$MVP_MM_CONFIGS:configs}}}}/{found[1]}'")


def _check_sections(cfg: Config) -> None:
    """Refuse a section that is no dict before anything is looked up in it."""
    for key in (*COMPOSING_KEYS, *_SECTIONS):
        if cfg.get(key) is not None and not isinstance(cfg[key], dict):
            raise ConfigError(f'{cfg.filename or "config"}: {key} is a dict, got {cfg[key]!r}')


def _drop_delete_keys(value: object) -> None:
    if isinstance(value, dict):
        value.pop('_delete_', None)
    for child in value.values() if isinstance(value, dict) else value:
        if isinstance(child, (dict, list, tuple)):
            _drop_delete_keys(child)


def _merged(source: str | Path | Config, cfg_options: Mapping[str, Any] | None) -> Config:
    """Read a config, with its datasets written out and the overrides merged in."""
    cfg = _read(source)
    early, late = {}, {}
    for key, value in (cfg_options or {}).items():
        if key.startswith('_'):
            raise ConfigError(f'--cfg-options {key}: a helper of the config files, which has no '
                              'effect here; override what it is used for')
        (early if _stands_in_files(cfg, key) else late)[key] = value
    for options in (early, late):
        _merge(cfg, options)
        _check_sections(cfg)
        expand_datasets(cfg)
        add_common_metrics(cfg)
        add_validation(cfg)
        give_missing_caption(cfg)
    fill_loader_defaults(cfg)
    return cfg


def _stands_in_files(cfg: Config, key: str) -> bool:
    """Tell whether the parent of a dotted path exists before datasets are written out."""
    *parents, _ = key.split('.')
    if key.split('.')[0] in COMPOSING_KEYS:
        return True
    place: Any = cfg
    for part in parents:
        if isinstance(place, (list, tuple)) and part.isdigit() and int(part) < len(place):
            place = place[int(part)]
        elif isinstance(place, (dict, Config)) and part in place:
            place = place[part]
        else:
            return False
    return isinstance(place, (dict, list, tuple, Config))


def _merge(cfg: Config, options: dict[str, Any]) -> None:
    """Merge overrides one by one, so that a message can name the one that does not fit."""
    for key, value in options.items():
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, TypeError, AttributeError) as error:
            reason = str(error.args[0] if error.args else error)
            raise ConfigError(f'--cfg-options {key}: {" ".join(reason.split())[:200]}') from error
