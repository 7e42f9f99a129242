# Copyright (c) mvp_mm authors. All rights reserved.
"""The one error of a config that cannot be run, and how its messages name places."""
from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence


class ConfigError(ValueError):
    """A config that cannot be run; the message lists every problem found, one per line."""


# What older versions, other frameworks or a first guess call a setting, and its name here.
MOVED = {
    'max_iters': 'train_cfg.max_iters', 'val_interval': 'train_cfg.val_interval',
    'lr': 'optim_wrapper.optimizer.lr', 'seed': 'randomness.seed',
    'batch_size': 'train_dataloader.batch_size', 'num_workers': 'train_dataloader.num_workers',
    'img_scale': 'canvas', 'image_size': 'canvas',
    'tokenizer': 'model.tokenizer, whose path follows model.llm.pretrained',
    'llm': 'model.llm', 'thinking': 'model.thinking',
    'model_name_or_path': 'pretrained', 'random_frozen': 'allow_frozen_random_init',
    'phrase_likeness': 'mean_phrase_cosine',
    'JoinedDataset': 'MultiSourceDataset', 'StageHandoverHook': 'StageCheckpointHook',
    'MatrixDecayConstructor': 'NoNormBiasDecayConstructor',
}


def merge_repeats(problems: Sequence[str]) -> list[str]:
    """Name a mistake once that every loader or dataset has.

    Args:
        problems: One line each, ``<path of the key><what is wrong>``.

    Returns:
        The lines; those that differ in the place of the key alone are one, which counts the
        others.
    """
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for problem in problems:
        found = re.match(r'([\w.\[\]]+\.)?(.*)', problem, re.DOTALL)
        place, rest = found[1] or '', found[2]
        # A key of the top level is no repetition of one further down.
        groups.setdefault((rest, '' if place else problem), []).append((place, rest))
    merged = []
    for places in groups.values():
        (place, rest), more = places[0], len(places) - 1
        key, colon, text = rest.partition(':')
        note = f' (and {more} more place{"s" * (more > 1)})' if more and colon else ''
        merged.append(f'{place}{key}{note}{colon}{text}' if note or not more else
                      f'{place}{rest} (and {more} more place{"s" * (more > 1)})')
    return merged


def raise_problems(where: str, problems: Sequence[str]) -> None:
    """Raise one error that lists the problems; return where there are none.

    Args:
        where: Name of the config, for the message.
        problems: One line each.

    Raises:
        ConfigError: If there is a problem.
    """
    problems = merge_repeats(problems)
    if len(problems) == 1:
        raise ConfigError(f'{where}: {problems[0]}')
    if problems:
        raise ConfigError(f'{where} has {len(problems)} problem(s):\n  ' + '\n  '.join(problems))


def hint(name: str, known: Iterable[str]) -> str:
    """Suggest the known name closest to an unknown one, or the one that it has now."""
    if name in MOVED:
        return f'; it is {MOVED[name]}'
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ''


def join_path(path: str, key: str | int) -> str:
    """Extend a config path by a key or a list position."""
    if isinstance(key, int):
        return f'{path}[{key}]'
    return f'{path}.{key}' if path else str(key)


def children(value: object) -> Iterator[tuple[str | int, object]]:
    """Iterate the entries of a dict, list or tuple."""
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, (list, tuple)):
        yield from enumerate(value)


def walk_dicts(value: object, path: str) -> Iterator[tuple[str, dict]]:
    """Iterate every dict at or below a value, with its path in the config."""
    if isinstance(value, dict):
        yield path, value
    for key, child in children(value):
        yield from walk_dicts(child, join_path(path, key))


def named_loaders(loader: object, path: str) -> Iterator[tuple[str, dict]]:
    """Iterate the data loaders of one mode: one, or several by name for the multi loops.

    Args:
        loader: ``train_dataloader``, ``val_dataloader`` or ``test_dataloader`` of a config.
        path: Its name.
    """
    if not isinstance(loader, dict) or not loader:
        return
    if loader.get('dataset') is not None or loader.get('mix') is not None:
        yield path, loader
        return
    for name, child in loader.items():
        yield f'{path}.{name}', child
