# Copyright (c) mvp_mm authors. All rights reserved.
"""Compare a checkpoint with a model and load it, with a report of what was taken over."""
from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mvp_mm.utils.checkpoint_io import CheckpointError, check_finite, read_checkpoint

# Buffers that a model computes itself; code bases differ in whether they are stored.
COMPUTED = ('num_batches_tracked', 'relative_position_index', 'relative_coords_table',
             'attn_mask', 'inv_freq', 'position_ids')
# Wrong shapes that an error shows.
_SHOWN = 5


@dataclass
class HandoverReport:
    """What a checkpoint gives to a model.

    Attributes:
        loaded: Keys of the model that the checkpoint holds.
        fresh: Keys of the model that it does not hold.
        unused: Keys of the checkpoint that the model does not have.
    """

    loaded: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = {'from the checkpoint': self.loaded, 'fresh': self.fresh, 'not used': self.unused}
        return '\n'.join(f'  {title}: {count_by_part(keys)}' for title, keys in parts.items())


def count_by_part(keys: Collection[str]) -> str:
    """Count the keys of each top-level part, ``connector (4), decoder (120)``."""
    counts: dict[str, int] = {}
    for key in keys:
        part = key.split('.')[0]
        counts[part] = counts.get(part, 0) + 1
    return ', '.join(f'{part} ({count})' for part, count in counts.items()) or 'nothing'


def prefixes(names: Collection[str]) -> tuple[str, ...]:
    """Names of parts as the beginnings of their parameters' names."""
    return tuple(f'{name}.' for name in names)


def pretrained_parts(model: nn.Module) -> dict[str, str]:
    """Modules that have read a file or folder of weights when they were built, and which."""
    return {name: part.pretrained for name, part in model.named_modules()
            if getattr(part, 'pretrained', None)}


def weights_in(checkpoint: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """The weights of a checkpoint, or of a bare state dict."""
    return checkpoint.get('state_dict', checkpoint)


def named_as_in(own: Collection[str], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Find the weights of layers that adapters are put beside: peft renames the layers."""
    own = set(own)
    renamed = {key.replace('.base_layer.', '.'): key for key in own if '.base_layer.' in key}
    return {renamed.get(key, key) if key not in own else key: value
            for key, value in given.items()}


def compare_with_model(model: nn.Module, checkpoint: Mapping[str, Any],
                       path: str | Path = 'the checkpoint') -> HandoverReport:
    """Tell what loading a checkpoint would change.

    Args:
        model: The model to be loaded.
        checkpoint: A checkpoint with a ``state_dict``, or a state dict itself.
        path: Where it was read, for messages.

    Raises:
        CheckpointError: If tensors of one key differ in shape, if no key fits at all, or if a
            value is not finite.
    """
    own = model.state_dict()
    given = named_as_in(own.keys(), weights_in(checkpoint))
    wrong = [
        f'{key}: checkpoint {tuple(given[key].shape)}, model {tuple(own[key].shape)}'
        for key in own.keys() & given.keys() if given[key].shape != own[key].shape
    ]
    if wrong:
        more = [f'and {len(wrong) - _SHOWN} more'] if len(wrong) > _SHOWN else []
        lines = '\n  '.join(sorted(wrong)[:_SHOWN] + more)
        raise CheckpointError(f'{path} does not fit the model:\n  {lines}')
    report = HandoverReport(
        loaded=[key for key in own if key in given],
        fresh=[key for key in own if key not in given],
        unused=[key for key in given if key not in own])
    if not report.loaded:
        raise CheckpointError(
            f'{path} has no weight of this model; it holds {count_by_part(list(given))}, the '
            f'model {count_by_part(list(own))}')
    check_finite({key: given[key] for key in report.loaded}, path)
    return report


def load_stage_checkpoint(model: nn.Module, path: str | Path) -> HandoverReport:
    """Load the weights of an earlier stage into a model; objects in the file are not run.

    Args:
        model: The model to load.
        path: Any file that :func:`~mvp_mm.utils.checkpoint_io.read_checkpoint` takes.

    Raises:
        FileNotFoundError: If the file, or one that it names for the rest, is not there.
        CheckpointError: If it does not fit the model, or leaves out a part that the model has
            not read from anywhere else.
    """
    checkpoint = complete(read_checkpoint(path), path)
    report = compare_with_model(model, checkpoint, path)
    check_left_out(model, checkpoint, report.fresh, path)
    given = named_as_in([*report.loaded, *report.fresh], weights_in(checkpoint))
    model.load_state_dict(given, strict=False)
    return report


def check_whole(model: nn.Module, state: Mapping[str, Tensor], path: str | Path,
                provided: Collection[str] = ()) -> None:
    """Refuse weights that are not exactly those of a model that is to answer.

    Args:
        model: The model.
        state: Weights by the model's names.
        path: Where they come from, for messages.
        provided: Names of parts that the model has read from elsewhere.

    Raises:
        CheckpointError: With the first keys that are missing, unexpected or of another shape.
    """
    own = model.state_dict()
    state = named_as_in(own.keys(), state)
    problems = {
        'missing': [key for key in own.keys() - state.keys()
                    if not key.startswith(prefixes(provided))],
        'unexpected': state.keys() - own.keys(),
        'of another shape': [key for key in own.keys() & state.keys()
                             if own[key].shape != state[key].shape],
    }
    told = []
    for title, keys in problems.items():
        keys = sorted(key for key in keys if not key.endswith(COMPUTED))
        if keys:
            told.append(f'{len(keys)} {title} ({", ".join(keys[:3])}'
                        f'{", …" if len(keys) > 3 else ""})')
    if told:
        raise CheckpointError(f'The weights in {path} do not fit the model: {"; ".join(told)}')


def load_whole(model: nn.Module, state: Mapping[str, Tensor], path: str | Path) -> nn.Module:
    """Load weights that must be exactly those of the model.

    Args:
        model: The model to load.
        state: Weights by name.
        path: Where they come from, for messages.

    Raises:
        CheckpointError: If a weight is missing, unexpected or of another shape.
    """
    check_whole(model, state, path)
    model.load_state_dict(named_as_in(model.state_dict().keys(), state), strict=False)
    return model


def complete(checkpoint: dict[str, Any], path: str | Path,
             seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Add the weights that a checkpoint has left where it found them.

    Args:
        checkpoint: With ``meta.frozen_from`` where it holds what was trained alone.
        path: Where it was read, for messages.
        seen: Files on the way here.

    Returns:
        The checkpoint with all weights in its ``state_dict``.

    Raises:
        FileNotFoundError: If the file that it names is gone.
        CheckpointError: If that file cannot be taken, or names this one.
    """
    base = (checkpoint.get('meta') or {}).get('frozen_from')
    if base is None:
        return checkpoint
    seen = (*seen, Path(path).resolve())
    if Path(base).resolve() in seen:
        raise CheckpointError(f'{path}: the files that hold its frozen weights name each other')
    if not Path(base).is_file():
        raise FileNotFoundError(f'{path} holds trained weights alone; those that were frozen '
                                f'come from {base}, which is not there')
    below = complete(read_checkpoint(base), base, seen)
    return {**checkpoint, 'state_dict': {**weights_in(below), **weights_in(checkpoint)}}


def check_left_out(model: nn.Module, checkpoint: Mapping[str, Any], fresh: Collection[str],
                   path: str | Path) -> None:
    """Refuse a checkpoint without frozen weights that it names by path and the model has not.

    Args:
        model: The model to be loaded.
        checkpoint: With ``meta.pretrained_from`` where it has left out pretrained parts.
        fresh: Keys of the model that the checkpoint does not give.
        path: Where it was read, for messages.

    Raises:
        CheckpointError: Naming the part and where its weights were.
    """
    left = (checkpoint.get('meta') or {}).get('pretrained_from') or {}
    own = prefixes(pretrained_parts(model))
    for part, source in left.items():
        lacking = [key for key in fresh if key.startswith(f'{part}.') and not key.startswith(own)]
        if lacking:
            raise CheckpointError(
                f'{path} does not hold {part}, which its run had from {source} and kept frozen; '
                f'this model would have random weights there. Give the same: '
                f'model.{part}.pretrained={source}')
