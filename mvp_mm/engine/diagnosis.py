# Copyright (c) mvp_mm authors. All rights reserved.
"""Where a training step first held a value that is not finite."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


class Origin(IntEnum):
    """What is looked at, in this order."""

    IMAGE = 0
    WEIGHT = 1
    LOSS = 2
    MATCHING = 3
    GRADIENT = 4
    GRADIENT_NORM = 5


@dataclass
class ForwardPass:
    """One forward pass of a step.

    Attributes:
        iteration: Number of the pass in the run, from 0.
        batch: What the data loader gave.
        losses: What the model returned, () each; empty where it has not returned.
        bad_costs: Whether the matcher met costs that were not finite.
    """

    iteration: int
    batch: dict
    losses: dict[str, Tensor] = field(default_factory=dict)
    bad_costs: bool = False


@dataclass(order=True)
class Fault:
    """The first value of a step that is not finite, as one rank sees it.

    Attributes:
        origin: What holds it.
        text: Its place and value.
        images: The images that may be at fault, each once.
        passes: Positions of the passes concerned.
    """

    origin: Origin
    text: str
    images: list[str] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        return f'{self.origin.name.lower().replace("_", " ")}: {self.text}'


def find_fault(model: nn.Module, passes: Sequence[ForwardPass]) -> Fault:
    """Look at inputs, weights, losses, costs of the matching and gradients, in this order.

    Args:
        model: The model, with the gradients of the step.
        passes: The forward passes of the step.
    """
    everything = list(range(len(passes)))
    for position, one in enumerate(passes):
        for name, value in tensors_of(one.batch):
            if not is_finite(value):
                return Fault(Origin.IMAGE, f'{name} holds {first_bad(value)}',
                             _images_at(one.batch, name), [position])
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if not is_finite(value):
            return Fault(Origin.WEIGHT, f'{name} holds {first_bad(value)}', [], everything)
    broken = {i: _bad_terms(one.losses) for i, one in enumerate(passes)}
    concerned = [i for i in everything if broken[i]]
    if concerned:
        return Fault(Origin.LOSS, ', '.join(broken[concerned[0]]), _images(passes, concerned),
                     concerned)
    concerned = [i for i in everything if passes[i].bad_costs]
    if concerned:
        return Fault(Origin.MATCHING, 'costs of the matching', _images(passes, concerned),
                     concerned)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not is_finite(parameter.grad):
            return Fault(Origin.GRADIENT, f'{name} has {first_bad(parameter.grad)}',
                         _images(passes, everything), everything)
    return Fault(Origin.GRADIENT_NORM, 'too large for its type', _images(passes, everything),
                 everything)


def _local(value: Tensor) -> Tensor:
    value = value.detach()
    return value.to_local() if isinstance(value, DTensor) else value


def is_finite(value: Tensor) -> bool:
    """Whether no value is NaN or infinite; of a sharded tensor, in the shard of this rank."""
    value = _local(value)
    return not value.is_floating_point() or bool(value.isfinite().all())


def first_bad(value: Tensor) -> float:
    """The first value that is not finite."""
    value = _local(value)
    return value[~value.isfinite()].flatten()[0].item()


def _bad_terms(losses: dict[str, Tensor]) -> list[str]:
    """The losses that are not finite, as ``name = value``."""
    return [f'{name} = {value.item()}' for name, value in losses.items() if not is_finite(value)]


def tensors_of(value: Any, name: str = '') -> Iterator[tuple[str, Tensor]]:
    """Iterate the tensors in nested dicts, lists and data elements, with their places."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, BaseDataElement):
        for key, child in value.items():
            yield from tensors_of(child, f'{name}.{key}')
    elif isinstance(value, dict):
        for key, child in value.items():
            yield from tensors_of(child, f'{name}.{key}'.lstrip('.'))
    elif isinstance(value, (list, tuple)):
        for position, child in enumerate(value):
            yield from tensors_of(child, f'{name}[{position}]')


def _image_rows(batch: dict) -> list[str]:
    """The image of each row of a batch, '' where it is not known."""
    rows = batch.get('data_samples') if isinstance(batch, dict) else None
    found = []
    for row in rows or []:
        samples = row if isinstance(row, (list, tuple)) else [row]
        info = getattr(samples[0], 'metainfo', {}) if samples else {}
        found.append(str(info.get('img_path', info.get('img_id', ''))))
    return found


def _images(passes: Sequence[ForwardPass], positions: Sequence[int]) -> list[str]:
    names = [name for i in positions for name in _image_rows(passes[i].batch) if name]
    return list(dict.fromkeys(names))


def _images_at(batch: dict, name: str) -> list[str]:
    """The image of the row that a tensor's place names, or all of them."""
    rows = _image_rows(batch)
    row = name.partition('[')[2].partition(']')[0]
    if row.isdigit() and int(row) < len(rows):
        rows = [rows[int(row)]]
    return [row for row in dict.fromkeys(rows) if row]


@torch.no_grad()
def scalar_losses(output: dict[str, Tensor | list[Tensor]]) -> dict[str, Tensor]:
    """What a model returns in training, () each and without its graph."""
    return {name: torch.stack([v.detach().float().mean() for v in value]).sum()
            if isinstance(value, (list, tuple)) else value.detach()
            if value.ndim == 0 else value.detach().float().mean()
            for name, value in output.items()}
