# Copyright (c) mvp_mm authors. All rights reserved.
"""Counts the operations that PyTorch dispatches, by part of a training step.

On a fast GPU a step is bound by the host: every dispatched operation costs it 5 to 15 us,
whatever the size of the tensors. Their number depends on depth and code, hardly on width or
batch, so a narrow model on a CPU tells it.
"""
from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mvp_mm.analysis.backward_parts import BackwardParts

REST = 'rest of the forward pass'
BACKWARD = 'backward:'
# Operations that make the host wait for a GPU: their result's value or shape is needed.
_WAITING = frozenset({
    '_local_scalar_dense', 'nonzero', 'masked_select', 'unique_dim', '_unique2', 'is_nonzero',
    'equal', 'bincount'})
_COPIES = frozenset({'_to_copy', 'copy_', '_foreach_copy_'})
_INDEXING = frozenset({'index', 'index_put', 'index_put_', '_unsafe_index'})
# Methods that read a tensor; on the CPU they dispatch nothing.
_READING = ('tolist', 'cpu')


@dataclass
class Operations:
    """What one part dispatched.

    Attributes:
        names: Number of calls by operation, overloads together.
        casts: Copies to another dtype.
        waits: Operations and calls after which the host would wait for a GPU. An upper bound:
            reading a tensor that is on the host anyway counts too.
        bytes: Bytes that the operations which are no views read and write, at the sizes run.
        cast_bytes: Those of the copies to another dtype.
    """

    names: Counter[str] = field(default_factory=Counter)
    casts: int = 0
    waits: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    cast_bytes: int = 0

    @property
    def dispatched(self) -> int:
        """Number of operations, views included."""
        return self.names.total()


class OperationCounter(TorchDispatchMode):
    """Counts operations below autograd, where each is one trip through the dispatcher.

    Use it as a context manager; :meth:`watch` says which methods are a part of their own, and
    :meth:`part` does so for a stretch of code. The backward pass of a watched method, and what is
    computed again for it, is a part too.

    Attributes:
        parts: What each part dispatched, by its name, in the order of their first operation.
        inside: What ran inside calls that are counted as one; it is in no part.
    """

    def __init__(self) -> None:
        super().__init__()
        self.parts: dict[str, Operations] = defaultdict(Operations)
        self.inside = Operations()
        self._names = [REST]
        self._single = False
        self._backward = BackwardParts(self._enter_backward)
        self._stack = ExitStack()

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Let compiled code run as compiled; see :meth:`single`."""
        return True

    def __enter__(self) -> OperationCounter:
        for name in _READING:
            self._stack.enter_context(patch.object(Tensor, name, self._reading(name)))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._stack.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (),
                           kwargs: dict | None = None) -> Any:
        """Count an operation and run it."""
        out = func(*args, **(kwargs or {}))
        found = self._counted
        name = str(func.overloadpacket).removeprefix('aten.')
        found.names[name] += 1
        tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)]
        if not func.is_view:
            found.bytes += _size(tensors)
        if name in _COPIES and len({x.dtype for x in tensors}) > 1:
            found.casts += 1
            found.cast_bytes += _size({id(x): x for x in tensors}.values())
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
            self._backward.name((args, kwargs), self._names[-1])
            with self.part(name):
                out = run(*args, **kwargs)
            self._backward.name(out, name)
            return out

        # Past nn.Module's own bookkeeping: the attribute hides the method of the class.
        vars(owner)[method] = counted
        self._stack.callback(vars(owner).pop, method)

    @contextmanager
    def backward_of(self, loss: Tensor) -> Iterator[None]:
        """Count the backward pass of a loss, which runs inside, by the parts that led to it."""
        self._backward.name(loss, self._names[-1])
        with self.part(f'{BACKWARD} {REST}'):
            yield

    def _enter_backward(self, part: str) -> None:
        # A backward pass that starts within another part counts for that.
        if self._names[-1].startswith(BACKWARD):
            self._names[-1] = f'{BACKWARD} {part}'

    @contextmanager
    def single(self, name: str) -> Iterator[None]:
        """Count what happens inside as one operation of this name."""
        self._counted.names[name] += 1
        before, self._single = self._single, True
        try:
            yield
        finally:
            self._single = before

    @property
    def _counted(self) -> Operations:
        return self.inside if self._single else self.parts[self._names[-1]]

    def _reading(self, name: str) -> Callable[..., Any]:
        """A method of tensors that counts itself: it dispatches nothing, yet waits for a GPU."""
        read = getattr(Tensor, name)

        def counted(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            self._counted.waits[name] += 1
            return read(tensor, *args, **kwargs)

        return counted

    @property
    def total(self) -> Operations:
        """All parts together."""
        total = Operations()
        for part in self.parts.values():
            total.names += part.names
            total.waits += part.waits
            total.casts += part.casts
            total.bytes += part.bytes
            total.cast_bytes += part.cast_bytes
        return total


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(x.numel() * x.element_size() for x in tensors)


def table(parts: Mapping[str, Operations], total: Operations) -> str:
    """Lay out the counts as a Markdown table, one row per part and one of all."""
    lines = ['| part | operations | casts | host waits | MB | of casts | most frequent |',
             '|---|---|---|---|---|---|---|']
    for name, part in {**parts, 'all': total}.items():
        common = ', '.join(f'{op} {n}' for op, n in part.names.most_common(4))
        lines.append(f'| {name} | {part.dispatched} | {part.casts} | {part.waits.total()} | '
                     f'{part.bytes / 1e6:.0f} | {part.cast_bytes / 1e6:.0f} | {common} |')
    return '\n'.join(lines)
