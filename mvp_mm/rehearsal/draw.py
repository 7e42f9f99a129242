# Copyright (c) mvp_mm authors. All rights reserved.
"""Draws the tensors of fabricated files of weights."""
from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor


class Random:
    """Draws seeded tensors and collects them by name."""

    def __init__(self, seed: int) -> None:
        self.state: dict[str, Tensor] = OrderedDict()
        self._generator = torch.Generator().manual_seed(seed)

    def add(self, name: str, *shape: int) -> None:
        """Draw one tensor."""
        self.state[name] = 0.05 * torch.randn(*shape, generator=self._generator)

    def linear(self, name: str, inputs: int, outputs: int, bias: bool = True) -> None:
        """Draw a linear layer."""
        self.add(f'{name}.weight', outputs, inputs)
        if bias:
            self.add(f'{name}.bias', outputs)

    def norm(self, name: str, width: int) -> None:
        """Draw a norm near its neutral values."""
        self.scale(name, width)
        self.add(f'{name}.bias', width)

    def scale(self, name: str, width: int) -> None:
        """Draw an RMS norm near its neutral values."""
        self.add(f'{name}.weight', width)
        self.state[f'{name}.weight'] += 1

    def conv(self, name: str, inputs: int, outputs: int, kernel: int, bias: bool = True) -> None:
        """Draw a convolution."""
        self.add(f'{name}.weight', outputs, inputs, kernel, kernel)
        if bias:
            self.add(f'{name}.bias', outputs)

    def mlp(self, name: str, *widths: int) -> None:
        """Draw an MLP as DETR's code names it."""
        for k, (inputs, outputs) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            self.linear(f'{name}.layers.{k}', inputs, outputs)
