# Copyright (c) mvp_mm authors. All rights reserved.
"""Builds parts of the model from their configs, and checks settings."""
from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mvp_mm.registry import MODELS


def build_part(config: dict, **sizes: Any) -> nn.Module:
    """Build a part, given those of the model's sizes that its constructor takes.

    Args:
        config: Config of the part; what it says itself counts.
        sizes: What the model knows, by name of the argument.
    """
    part = MODELS.get(config['type'])
    takes = inspect.signature(part).parameters if part else {}
    return MODELS.build({**{k: v for k, v in sizes.items() if k in takes}, **config})


def check_choice(setting: str, value: object, choices: Sequence[object]) -> None:
    """Refuse a setting that is none of its choices.

    Raises:
        ValueError: Naming the setting and the choices.
    """
    if value not in choices:
        raise ValueError(f'{setting} must be one of {", ".join(map(repr, choices))}, got {value!r}')


def train_only(model: nn.Module, parts: Sequence[str]) -> None:
    """Freeze all top-level parts of a model but some.

    Raises:
        ValueError: If the model has no such part.
    """
    children = dict(model.named_children())
    unknown = sorted(set(parts) - set(children))
    if unknown:
        raise ValueError(f'Cannot train {unknown}: the model has {sorted(children)}')
    for name, child in children.items():
        if name not in parts:
            child.requires_grad_(False)


def checkpointed(layers: Iterable[nn.Module], on: bool) -> list[Callable]:
    """Give layers whose activations are recomputed in the backward pass, where there is one.

    Args:
        layers: Layers that draw no random numbers.
        on: False gives them as they are.
    """
    if not on or not torch.is_grad_enabled():
        return list(layers)
    return [partial(checkpoint, layer, use_reentrant=False, preserve_rng_state=False)
            for layer in layers]
