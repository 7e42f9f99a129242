# Copyright (c) mvp_mm authors. All rights reserved.
"""Counts compiled regions and captured graphs of a training step as one operation per call.

On a GPU a compiled region is one call from Python into generated code, which launches its kernels
without PyTorch's dispatcher, and a captured graph is one launch. On the CPU stand-ins take their
places: a compiled region's graph, as AOTAutograd makes it, is run one operation after the other, a
captured function is run again. What runs inside is counted apart. How many kernels a region
launches is the compiler's choice on the device, and not known here.
"""
from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from unittest.mock import patch

from functorch.compile import make_boxed_func
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch.fx import GraphModule

from mvp_mm.analysis.operations import OperationCounter
from mvp_mm.models import MVPLM
from mvp_mm.models.acceleration import CapturedFunction, accelerate_training
from mvp_mm.models.acceleration.graphs import HostRecording

COMPILED, CAPTURED = 'compiled region', 'captured graph'


class SingleCalls:
    """Accelerates a model on the CPU, and tells a counter what is one call on a GPU.

    Args:
        model: The model, in place; on the CPU.
        regions: See :func:`~mvp_mm.models.acceleration.accelerate_training`.
        capture_encoder: Likewise; the encoder must be frozen.
    """

    def __init__(self, model: MVPLM, regions: Collection[str], capture_encoder: bool) -> None:
        self._counter: OperationCounter | None = None
        accelerate_training(model, regions, capture_encoder=False, tf32=False,
                            backend=self._backend)
        if capture_encoder:
            backbone = model.encoder.backbone
            backbone.forward = CapturedFunction(backbone.forward)

    @contextmanager
    def told_to(self, counter: OperationCounter) -> Iterator[None]:
        """Tell a counter of each call."""
        self._counter = counter
        replay = HostRecording.replay

        def counted(recording: HostRecording) -> None:
            with counter.single(CAPTURED):
                replay(recording)

        with patch.object(HostRecording, 'replay', counted):
            try:
                yield
            finally:
                self._counter = None

    def _backend(self, graph: GraphModule, inputs: list[Tensor]) -> Callable:
        """Backend of ``torch.compile``: forward and backward graphs, run as they are."""
        return aot_autograd(fw_compiler=self._graph)(graph, inputs)

    def _graph(self, graph: GraphModule, inputs: list[Tensor]) -> Callable:
        def run(*args: Tensor) -> list[Tensor]:
            if self._counter is None:
                return graph(*args)
            with self._counter.single(COMPILED):
                return graph(*args)

        return make_boxed_func(run)
