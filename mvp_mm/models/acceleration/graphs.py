# Copyright (c) mvp_mm authors. All rights reserved.
"""Replays functions of tensors as CUDA graphs."""
from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol
from weakref import WeakSet

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

_WARM_UP_RUNS = 2
# One pool for all graphs that live: what a graph needs between its first and last operation, the
# next one may use. Results are copied out before another replay. A pool ends with its last graph.
_pool: Any = None
_living: WeakSet[torch.cuda.CUDAGraph] = WeakSet()


class Recording(Protocol):
    """A function that has been recorded, with inputs and outputs at fixed addresses."""

    outputs: list[Any]

    def replay(self) -> None:
        """Compute the outputs from the inputs."""


class CudaRecording:
    """A CUDA graph of a function without arguments."""

    def __init__(self, function: Callable[[], list[Any]]) -> None:
        global _pool
        if not _living:
            _pool = torch.cuda.graph_pool_handle()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP_RUNS):
                function()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads (pinned memory, the watch over NCCL) may go on with their own calls.
        with torch.cuda.graph(self._graph, pool=_pool, capture_error_mode='thread_local'):
            self.outputs = function()
        _living.add(self._graph)

    def replay(self) -> None:
        """Launch the graph."""
        self._graph.replay()


class HostRecording:
    """Stands in for a graph where there is no CUDA: runs the function again, in place.

    Tests see with it what a replay sees: inputs and outputs at fixed addresses.
    """

    def __init__(self, function: Callable[[], list[Any]]) -> None:
        self._function = function
        self.outputs = [x.clone() if isinstance(x, Tensor) else x for x in function()]

    def replay(self) -> None:
        """Run the function and overwrite its outputs."""
        for kept, new in zip(self.outputs, self._function(), strict=True):
            if isinstance(kept, Tensor):
                kept.copy_(new)


class CapturedFunction:
    """Calls a function of tensors, one recording per signature of its arguments.

    The signature is everything but the numbers in the tensors: shapes, dtypes, the other
    arguments, autocast. The function must not read tensors on the host, and compute the same
    operations whatever the numbers. Nothing is recorded where a gradient is asked for, and beyond
    the most signatures calls run as they are. Parameters must neither move nor change: what the
    function keeps of them is recorded too, and must be kept as long.

    Args:
        function: Takes and returns nested lists, tuples and dicts of tensors and constants.
        most: Signatures that are recorded.
        keep_outputs: Give copies of the outputs, which the next call does not overwrite.
    """

    def __init__(self, function: Callable[..., Any], most: int = 16,
                 keep_outputs: bool = True) -> None:
        self.function = function
        self.most = most
        self.keep_outputs = keep_outputs
        self.recordings: dict[tuple, tuple[list[Tensor], Recording, TreeSpec]] = {}
        self._lock = threading.Lock()

    def __call__(self, *args: Any) -> Any:
        """Call the function."""
        leaves, spec = tree_flatten(args)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if not tensors or (torch.is_grad_enabled() and any(x.requires_grad for x in tensors)):
            return self.function(*args)
        device = tensors[0].device
        key = _signature(leaves, spec, device)
        with self._lock, torch.no_grad():
            if key not in self.recordings and len(self.recordings) >= self.most:
                return self.function(*args)
            if key not in self.recordings:
                self.recordings[key] = self._record(leaves, spec, device)
            else:
                copy_all(self.recordings[key][0], tensors)
            _, recording, out_spec = self.recordings[key]
            recording.replay()
            return tree_unflatten(
                copies(recording.outputs) if self.keep_outputs else list(recording.outputs),
                out_spec)

    def _record(self, leaves: list[Any], spec: TreeSpec,
                device: torch.device) -> tuple[list[Tensor], Recording, TreeSpec]:
        held = [x.detach().clone() if isinstance(x, Tensor) else x for x in leaves]
        args = tree_unflatten(held, spec)
        found: list[TreeSpec] = []

        def run() -> list[Any]:
            with _uncached_autocast(device.type):
                out, out_spec = tree_flatten(self.function(*args))
            found[:] = [out_spec]
            return out

        record = CudaRecording if device.type == 'cuda' else HostRecording
        recording = record(run)
        return [x for x in held if isinstance(x, Tensor)], recording, found[0]


def _signature(leaves: Sequence[Any], spec: TreeSpec, device: torch.device) -> tuple:
    kinds = tuple((x.shape, x.dtype, x.device, x.stride()) if isinstance(x, Tensor) else x
                  for x in leaves)
    return (kinds, spec, torch.is_autocast_enabled(device.type),
            torch.get_autocast_dtype(device.type))


@contextmanager
def _uncached_autocast(device: str) -> Iterator[None]:
    """Keep autocast's setting, not its copies of weights, which die before the graph does."""
    enabled = torch.is_autocast_enabled(device)
    with torch.autocast(device, torch.get_autocast_dtype(device), enabled=enabled,
                        cache_enabled=False):
        yield


def copy_all(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copy tensors into others of their shapes and dtypes, few launches for many tensors."""
    groups: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for target, source in zip(targets, sources, strict=True):
        into, out_of = groups.setdefault(target.dtype, ([], []))
        into.append(target)
        out_of.append(source)
    for into, out_of in groups.values():
        torch._foreach_copy_(into, out_of)


def copies(values: Sequence[Any]) -> list[Any]:
    """Copy the tensors among values, strides included."""
    return [x.clone() if isinstance(x, Tensor) else x for x in values]
