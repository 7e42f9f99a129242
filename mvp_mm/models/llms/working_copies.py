# Copyright (c) mvp_mm authors. All rights reserved.
"""Trains a language model on bfloat16 copies of its weights; the weights stay float32."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mvp_mm.models.llms.building import decoder_layers

# In elements: 32 bytes of float32, 16 of bfloat16.
_ALIGNMENT = 8


class _Copy(torch.autograd.Function):
    """Copies weights to bfloat16 in one operation; gradients return to float32 in another."""

    @staticmethod
    def forward(ctx: Any, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        copies = _cast(weights, torch.bfloat16)
        ctx.mark_non_differentiable(
            *(copy for copy, needed in zip(copies, ctx.needs_input_grad, strict=True)
              if not needed))
        return tuple(copies)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        found = iter(_cast([g for g in gradients if g is not None], torch.float32))
        return tuple(None if g is None else next(found) for g in gradients)


def _cast(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Cast tensors all at once, into one block of memory."""
    if not tensors:
        return []
    # Each begins where kernels can read it in whole vectors.
    sizes = [-(-tensor.numel() // _ALIGNMENT) * _ALIGNMENT for tensor in tensors]
    block = tensors[0].new_empty(sum(sizes), dtype=dtype)
    copies = []
    for part, tensor in zip(block.split(sizes), tensors, strict=True):
        part = part if len(part) == tensor.numel() else part[:tensor.numel()]
        copies.append(part if tensor.ndim == 1 else part.view(tensor.shape))
    torch._foreach_copy_(copies, list(tensors))
    return copies


class WorkingCopies:
    """Gives the layers of a language model bfloat16 copies of their weights to compute with.

    The parameters stay what the optimizer, clipping, data parallelism and checkpoints see: the
    float32 master weights. Copies are made layer by layer, so that a layer's gradients are ready
    when its backward pass is; all uses of a step add up in bfloat16, steps that accumulate in
    float32. The input embedding and the output layer keep to their weights.

    Args:
        lm: The model.

    Attributes:
        dtype: That of the copies.
    """

    dtype = torch.bfloat16

    def __init__(self, lm: PreTrainedModel) -> None:
        self._lm = lm

    @contextmanager
    def in_use(self, device: str) -> Iterator[None]:
        """Make copies, and compute in their precision rather than under autocast.

        The layers keep the copies for the backward pass, in which they may run again.

        Args:
            device: Type of the device, whose autocast is off meanwhile.
        """
        for group in self._groups():
            copies = _Copy.apply(*(module._parameters[name] for module, name in group))
            for (module, name), copy in zip(group, copies, strict=True):
                # It hides the parameter, which nn.Module looks up after plain attributes.
                vars(module)[name] = copy
        with torch.autocast(device, enabled=False):
            yield

    def drop(self) -> None:
        """Let the layers compute with their parameters."""
        for group in self._groups():
            for module, name in group:
                vars(module).pop(name, None)

    def _groups(self) -> list[list[tuple[nn.Module, str]]]:
        """Modules and names of the weights: one group per layer, and one of the rest."""
        decoder, embedding = self._lm.get_decoder(), self._lm.get_input_embeddings()
        layer_of = {module: index for index, layer in enumerate(decoder_layers(self._lm))
                    for module in layer.modules()}
        groups = defaultdict(list)
        for module in decoder.modules():
            for name, weight in module._parameters.items():
                if module is not embedding and weight is not None and weight.is_floating_point():
                    groups[layer_of.get(module, -1)].append((module, name))
        return list(groups.values())
