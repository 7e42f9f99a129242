# Copyright (c) mvp_mm authors. All rights reserved.
"""Tells which part of a forward pass made each node of the graph that runs backward."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor
from torch.autograd.graph import Node


class BackwardParts:
    """Names nodes of the autograd graph after the part that made them.

    A part is what lies between the tensors that it is given and those that it returns.

    Args:
        enter: Called with the name of a node's part whenever a node begins to run.
    """

    def __init__(self, enter: Callable[[str], None]) -> None:
        self._enter = enter
        self._names: dict[Node, str] = {}

    def name(self, value: Any, part: str) -> None:
        """Name all nodes that tensors among ``value`` come from and that have no name yet."""
        waiting = [tensor.grad_fn for tensor in tensors_in(value)]
        while waiting:
            node = waiting.pop()
            if node is None or node in self._names:
                continue
            self._names[node] = part
            node.register_prehook(lambda gradients: self._enter(part))
            waiting.extend(child for child, _ in node.next_functions)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Find the tensors in nested lists, tuples, mappings and dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif is_dataclass(value) and not isinstance(value, type):
        yield from tensors_in([getattr(value, field.name) for field in fields(value)])
