# Copyright (c) mvp_mm authors. All rights reserved.
"""Counts the operations that PyTorch dispatches, by part of a training step.

On a fast GPU a step is bound by the host: every dispatched operation costs it 5 to 15 us,
whatever the size of the tensors. Their number depends on depth and code, hardly on width or
batch, so a narrow model on a CPU tells it.
"""
from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

REST = 'rest of the forward pass'
# Operations that make the host wait for a GPU: their result's value or shape is needed.
_WAITING = frozenset({
    '_local_scalar_dense', 'nonzero', 'masked_select', 'unique_dim', '_unique2', 'is_nonzero',
    'equal', 'bincount'})
_INDEXING = frozenset({'index', 'index_put', 'index_put_', '_unsafe_index'})
# Calls that read a tensor; on the CPU they dispatch nothing.
_READING = frozenset({Tensor.tolist, Tensor.cpu})


@dataclass
class Operations:
    """What one part dispatched.

    Attributes:
        names: Number of calls by operation, overloads together.
        casts: Copies to another dtype.
        waits: Operations and calls after which the host would wait for a GPU. An upper bound:
            reading a tensor that is on the host anyway counts too.
        bytes: Bytes that the operations which are no views read and write, at the sizes run.
    """

    names: Counter[str] = field(default_factory=Counter)
    casts: int = 0
    waits: Counter[str] = field(default_factory=Counter)
    bytes: int = 0

    @property
    def dispatched(self) -> int:
        """Number of operations, views included."""
        return self.names.total()


class OperationCounter(TorchDispatchMode):
    """Counts operations below autograd, where each is one trip through the dispatcher.

    Use it as a context manager; :meth:`watch` says which methods are a part of their own, and
    :meth:`part` does so for a stretch of code. What a backward pass computes again counts as
    backward.

    Attributes:
        parts: What each part dispatched, by its name, in the order of their first operation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.parts: dict[str, Operations] = defaultdict(Operations)
        self._names = [REST]
        self._stack = ExitStack()

    def __enter__(self) -> OperationCounter:
        self._stack.enter_context(_ReadCounter(self))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._stack.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (),
                           kwargs: dict | None = None) -> Any:
        """Count an operation and run it."""
        out = func(*args, **(kwargs or {}))
        found = self.parts[self._names[-1]]
        name = str(func.overloadpacket).removeprefix('aten.')
        found.names[name] += 1
        tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)]
        if not func.is_view:
            found.bytes += sum(x.numel() * x.element_size() for x in tensors)
        if name in ('_to_copy', 'copy_') and len({x.dtype for x in tensors}) > 1:
            found.casts += 1
        by_mask = name in _INDEXING and any(x.dtype == torch.bool for x in tree_leaves(args[1])
                                            if isinstance(x, Tensor))
        if name in _WAITING or by_mask:
            found.waits[name] += 1
        return out

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what happens inside as a part."""
        self._names.append(name)
        try:
            yield
        finally:
            self._names.pop()

    def watch(self, owner: object, method: str, name: str) -> None:
        """Count what a method of an object dispatches as a part, until the counter exits.

        Nested parts count for the innermost.
        """
        run: Callable[..., Any] = getattr(owner, method)

        def counted(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return run(*args, **kwargs)

        # Past nn.Module's own bookkeeping: the attribute hides the method of the class.
        vars(owner)[method] = counted
        self._stack.callback(vars(owner).pop, method)

    def read(self, name: str) -> None:
        """Count a call that reads a tensor."""
        self.parts[self._names[-1]].waits[name] += 1

    @property
    def total(self) -> Operations:
        """All parts together."""
        total = Operations()
        for part in self.parts.values():
            total.names += part.names
            total.waits += part.waits
            total.casts += part.casts
            total.bytes += part.bytes
        return total


class _ReadCounter(TorchFunctionMode):
    """Tells the counter of calls that dispatch nothing on the CPU, yet wait for a GPU."""

    def __init__(self, counter: OperationCounter) -> None:
        self.counter = counter

    def __torch_function__(self, func: Any, types: Any, args: tuple = (),
                           kwargs: dict | None = None) -> Any:
        if func in _READING:
            self.counter.read(func.__name__)
        return func(*args, **(kwargs or {}))


def table(parts: Mapping[str, Operations], total: Operations) -> str:
    """Lay out the counts as a Markdown table, one row per part and one of all."""
    lines = ['| part | operations | casts | host waits | MB | most frequent |',
             '|---|---|---|---|---|---|']
    for name, part in {**parts, 'all': total}.items():
        common = ', '.join(f'{op} {n}' for op, n in part.names.most_common(4))
        lines.append(f'| {name} | {part.dispatched} | {part.casts} | {part.waits.total()} | '
                     f'{part.bytes / 1e6:.0f} | {common} |')
    return '\n'.join(lines)
