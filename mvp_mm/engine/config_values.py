# Copyright (c) mvp_mm authors. All rights reserved.
"""Check the values of a config: their types by the components' annotations, and their ranges."""
from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config

from mvp_mm.engine.config_error import join_path, named_loaders, walk_dicts

_POSITIVE, _FROM_ZERO, _ABOVE_ZERO = '1 or more', '0 or more', 'above 0'
_PACE = '1 or more, or -1 for never'
_SHARE, _BELOW_ONE = 'from 0 to 1', 'from 0 to below 1'
_SECONDS = 'from 0 to 10 000 000 seconds'
_TESTS: dict[str, Callable[[float], bool]] = {
    _POSITIVE: lambda x: x >= 1, _FROM_ZERO: lambda x: x >= 0, _ABOVE_ZERO: lambda x: x > 0,
    _PACE: lambda x: x >= 1 or x == -1, _SHARE: lambda x: 0 <= x <= 1,
    _BELOW_ONE: lambda x: 0 <= x < 1, _SECONDS: lambda x: 0 <= x <= 10**7}
# What counts something.
_WHOLE = (_POSITIVE, _PACE)
# Ranges by the last key of a path; lists are checked number by number.
RANGES: dict[str, str] = {
    **dict.fromkeys((
        'batch_size', 'total_batch_size', 'max_iters', 'max_epochs', 'val_interval',
        'accumulative_counts', 'window_size', 'num_queries', 'num_layers', 'num_heads',
        'num_points', 'embed_dims', 'feedforward', 'merge', 'depths', 'num_visual_tokens',
        'max_length', 'max_response_tokens', 'hidden_size', 'intermediate_size',
        'num_hidden_layers', 'num_attention_heads', 'max_position_embeddings', 'vocab_size',
        'max_per_image', 'max_instances', 'max_per_phrase', 'pad_size_divisor'), _POSITIVE),
    **dict.fromkeys((
        'num_workers', 'num_stuff_queries', 'weight_decay', 'box_noise', 'eta_min', 'begin', 'end',
        'class_weight', 'word_weight', 'sentence_weight', 'ranking_weight', 'l1_weight',
        'giou_weight', 'bce_weight', 'dice_weight', 'no_object_weight', 'num_negatives',
        'max_negatives', 'response_room', 'seed'), _FROM_ZERO),
    **dict.fromkeys(('lr', 'max_norm', 'same_iou', 'positive_iou', 'std'), _ABOVE_ZERO),
    **dict.fromkeys((
        'label_noise', 'drop_path_rate', 'dropout', 'score_thr', 'mask_thr', 'overlap_thr',
        'instance_thr', 'presence_thr', 'flip_prob', 'start_factor'), _SHARE),
    **dict.fromkeys(('timeout', 'stall_timeout', 'worker_timeout', 'grace'), _SECONDS),
    'betas': _BELOW_ONE,
    'interval': _PACE,
}
_MAY_BE_INFINITE = ('max_norm', )
_MAY_BE_LISTS = ('depths', 'num_heads', 'num_negatives', 'betas', 'std')
_PLAIN = (bool, int, float, str, type(None))


def value_problems(cfg: Config) -> Iterator[str]:
    """Find numbers out of their range, and shares that do not fit the datasets.

    Args:
        cfg: The config.
    """
    for section, value in cfg.items():
        if not section.startswith('_'):
            for path, place in walk_dicts(value, section):
                for key, child in place.items():
                    yield from _range_problems(key, child, join_path(path, key))
                yield from _prefix_problems(place, path)
            if not isinstance(value, dict):
                yield from _range_problems(section, value, section)
    for mode in ('train', 'val', 'test'):
        where = f'{mode}_dataloader'
        for path, loader in named_loaders(cfg.get(where), where):
            yield from _ratio_problems(loader, path)


def _range_problems(key: str, value: Any, path: str) -> Iterator[str]:
    """Check one value, or the numbers of a list."""
    if isinstance(value, (list, tuple)) and (key not in RANGES or key in _MAY_BE_LISTS):
        for position, child in enumerate(value):
            where = join_path(path, position)
            if key in RANGES and child is None:
                yield f'{where}: must be a number, {RANGES[key]}, got None'
            elif key in RANGES or isinstance(child, (int, float)):
                yield from _range_problems(key, child, where)
        return
    if isinstance(value, float) and not math.isfinite(value) and not (
            value > 0 and key in _MAY_BE_INFINITE):
        yield f'{path}: {value} is not finite'
    elif key in RANGES and value is not None:
        whole = RANGES[key] in _WHOLE
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            kind = 'a whole number' if whole else 'a number'
            yield f'{path}: must be {kind}, {RANGES[key]}, got {value!r}'
        elif not _TESTS[RANGES[key]](value):
            yield f'{path}: must be {RANGES[key]}, got {value!r}'


def _prefix_problems(dataset: dict, path: str) -> Iterator[str]:
    """Find folders of a dataset that are no texts."""
    prefixes = dataset.get('data_prefix')
    for key, value in prefixes.items() if isinstance(prefixes, dict) else ():
        if not isinstance(value, str):
            yield f'{path}.data_prefix.{key}: must be a text, got {value!r}'


def _ratio_problems(loader: Any, path: str) -> Iterator[str]:
    """Compare the shares of a sampler with its datasets."""
    if not isinstance(loader, dict) or not isinstance(loader.get('sampler'), dict):
        return
    ratios = loader['sampler'].get('ratios')
    if ratios is None:
        return
    where = f'{path}.sampler.ratios'
    if not isinstance(ratios, (list, tuple)):
        yield f'{where}: must be a list of numbers, got {ratios!r}'
        return
    for position, ratio in enumerate(ratios):
        if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not ratio > 0:
            yield f'{where}[{position}]: must be a number above 0, got {ratio!r}'
    dataset = loader.get('dataset')
    members = dataset.get('datasets') if isinstance(dataset, dict) else None
    if isinstance(members, (list, tuple)) and len(members) != len(ratios):
        yield f'{where}: {len(ratios)} ratios for {len(members)} datasets'


def type_problems(value: Mapping[str, Any], component: Callable, path: str) -> Iterator[str]:
    """Find arguments whose values are not what a component's annotations ask for.

    Only annotations made of numbers, texts, booleans, lists and dicts are judged: any other may
    stand for what a dict or a name in the config is built into.

    Args:
        value: The component's config.
        component: Its class or function.
        path: Where it stands.
    """
    hints, defaults = _annotations(component)
    for key, child in value.items():
        wanted = hints.get(key, _like(defaults.get(key)))
        if wanted is None or child is None and defaults.get(key, 0) is None:
            continue
        if not fits(child, wanted):
            yield f'{path}.{key}: must be {type_name(wanted)}, got {child!r}'
        elif (wanted is dict and defaults[key] is inspect.Parameter.empty and 'type' not in child
              and component.__module__.startswith('mvp_mm.')):
            yield f'{path}.{key}: must be a dict with a type, got {child!r}'
        elif key not in hints and _is_numbers(defaults.get(key)) and isinstance(
                child, (list, tuple)):
            for position, item in enumerate(child):
                if isinstance(item, (str, dict)):
                    where = join_path(join_path(path, key), position)
                    yield f'{where}: must be a number, got {item!r}'


def _is_numbers(value: Any) -> bool:
    """Whether a default is a list of numbers, which annotations do not tell."""
    return isinstance(value, (list, tuple)) and bool(value) and all(
        isinstance(item, (int, float)) for item in value)


def _annotations(component: Callable) -> tuple[dict[str, Any], dict[str, Any]]:
    """Types and defaults of a component's arguments, those of its base classes included."""
    owners = [owner.__init__ for owner in reversed(component.__mro__[:-1])
              if '__init__' in vars(owner)] if inspect.isclass(component) else [component]
    hints: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    for function in owners:
        if not inspect.isfunction(function):
            continue
        try:
            found = typing.get_type_hints(function)
        except (NameError, TypeError, AttributeError):
            found = {}  # names that only a type checker sees
        for name, parameter in inspect.signature(function).parameters.items():
            hints.pop(name, None)
            if name in found:
                hints[name] = found[name]
            defaults[name] = parameter.default
    return hints, defaults


def _like(default: Any) -> Any:
    """What an argument without annotation must be where its default is plain."""
    if isinstance(default, bool):
        return bool | int | None
    return float | list | tuple if isinstance(default, (int, float, list, tuple)) else None


def fits(value: Any, wanted: Any) -> bool:
    """Tell whether a value may be meant by an annotation; in doubt it is.

    Args:
        value: A value of the config.
        wanted: A type, a union, a literal or a generic.
    """
    origin, args = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, arg) for arg in args)
    if origin is typing.Literal:
        return value in args
    if wanted is bool:
        return isinstance(value, bool)
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if wanted is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if wanted in (str, type(None)):
        return isinstance(value, wanted)
    kind = origin or wanted
    if kind in (list, tuple, Sequence, Iterable):
        items = [arg for arg in args if arg is not Ellipsis]
        if not isinstance(value, (list, tuple)):
            return False
        if kind is tuple and items and Ellipsis not in args:
            return len(value) == len(items) and all(map(fits, value, items))
        return not items or all(fits(child, items[0]) for child in value)
    if kind in (dict, Mapping):
        return isinstance(value, dict)
    return True


def type_name(wanted: Any) -> str:
    """Write an annotation as a reader of the config would say it.

    Args:
        wanted: See :func:`fits`.
    """
    if isinstance(wanted, type):
        return {'int': 'a whole number', 'float': 'a number', 'bool': 'True or False',
                'str': 'a text'}.get(wanted.__name__, f'a {wanted.__name__}')
    return str(wanted).replace('typing.', '').replace('NoneType', 'None')


def loader_type_problems(loader: Mapping[str, Any], keywords: Callable,
                         path: str) -> Iterator[str]:
    """Check the plain arguments of a data loader.

    Args:
        loader: The loader's config.
        keywords: torch's DataLoader.
        path: Where it stands.
    """
    plain = {key: value for key, value in loader.items() if isinstance(value, _PLAIN)
             and key not in ('collate_fn', 'sampler', 'dataset', 'batch_sampler')}
    yield from type_problems(plain, keywords, path)
