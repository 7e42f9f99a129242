# Copyright (c) mvp_mm authors. All rights reserved.
"""Computes the memory of a training step at full size, on a CPU, without any data.

The step runs on tensors that have shapes, dtypes and lifetimes but no numbers, under autocast on
the CPU, whose list of operations in float32 is not quite CUDA's. Counted are the bytes of tensors
alive at once; a GPU needs more for its kernels' workspaces, for blocks that its allocator has cut
and not given back, and for CUDA itself.
"""
from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from mvp_mm.analysis.synthetic_batch import canvas_side, make_samples
from mvp_mm.models import MVPLM
from mvp_mm.models.data_preprocessor import masks_on_device
from mvp_mm.models.encoders import swin
from mvp_mm.models.losses import (
    HungarianMatcher,
    Matches,
    Predictions,
    SampledMasks,
    Targets,
    targets,
)
from mvp_mm.ops import deformable_attention
from mvp_mm.registry import MODELS

_DEVICE = torch.device('cpu')
_JOIN = targets.values_on_host
# Numbers that AdamW keeps per parameter.
_MOMENTS = 2


@dataclass(frozen=True)
class StepMemory:
    """Bytes that a training step holds.

    Attributes:
        weights: Parameters and buffers.
        optimizer: State of AdamW.
        gradients: Of all parameters that train, after the backward pass.
        forward: Activations at the end of the forward pass, the images among them.
        peak: The most at once, of all kinds together.
    """

    weights: int
    optimizer: int
    gradients: int
    forward: int
    peak: int


class MemoryCounter(TorchDispatchMode):
    """Adds up the bytes of the storages that operations make, for as long as they live.

    Attributes:
        held: Bytes alive now.
        peak: The most at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held = 0
        self.peak = 0
        self._living: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (),
                           kwargs: dict | None = None) -> Any:
        """Run an operation and count what it makes."""
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self.add(tensor)
        return out

    def add(self, tensor: Tensor) -> None:
        """Count a tensor's storage, if it is not counted yet."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._living:
            return
        self._living.add(key)
        self.held += storage.nbytes()
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._remove, key, storage.nbytes())

    def _remove(self, key: int, size: int) -> None:
        self._living.discard(key)
        self.held -= size


def step_memory(cfg: Config, images: int, sentences: int = 2, words: int = 133) -> StepMemory:
    """Compute the memory of a config's training step on a made-up batch.

    Args:
        cfg: A loaded config of AdamW; ``model.llm.pretrained`` is set to None. Its default scope
            must be in place.
        images: Images in the batch.
        sentences: Sentences about each image, beside one word list.
        words: Names in the word list.
    """
    cfg.model.llm.pretrained = None
    side = canvas_side(cfg)
    # Boxes, labels and token ids are real: the host lays out the batch by them.
    samples = make_samples(images, sentences, side, cfg.model.tokenizer.num_visual_tokens,
                           cfg.model.llm.config.vocab_size, words)
    with _no_numbers():
        model = _build(cfg)
        samples = [masks_on_device(sample, _DEVICE) for sample in samples]
        pixels = torch.empty(images, 3, side, side, device=_DEVICE)
        counter = MemoryCounter()
        for tensor in (*model.parameters(), *model.buffers()):
            counter.add(tensor)
        weights = counter.held
        counter.add(pixels)
        with counter:
            with torch.autocast(_DEVICE.type, torch.bfloat16):
                loss = model.parse_losses(model.loss(pixels, samples))[0]
            forward = counter.held - weights
            loss.backward()
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = sum(p.numel() for p in trained) * 4 * _MOMENTS
        gradients = sum(p.numel() * p.element_size() for p in trained)
        return StepMemory(weights, optimizer, gradients, forward, counter.peak + optimizer)


def _build(cfg: Config) -> MVPLM:
    """Build a config's model on the device, in training mode."""
    with _disable_current_modes(), _parameters_on_meta():
        model = MODELS.build(cfg.model)
        model.per_id = model.llm.vocab_size - 1
    return model.to_empty(device=_DEVICE).train()


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Let modules drop their parameters' numbers before they draw them."""
    register = nn.Module.register_parameter

    def without_numbers(self: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None:
            parameter = nn.Parameter(parameter.to('meta'), parameter.requires_grad)
        register(self, name, parameter)

    with patch.object(nn.Module, 'register_parameter', without_numbers):
        yield


@contextmanager
def _no_numbers() -> Iterator[None]:
    """Compute without numbers; what needs them or a GPU has a stand-in that keeps the same."""
    with ExitStack() as stack:
        for owner, name, stand_in in (
                (F, 'scaled_dot_product_attention', _attend),
                (deformable_attention, 'sample_and_sum', _sample_and_sum),
                # A mask without numbers must not stay in the cache that later runs read.
                (swin, 'shift_mask', swin.shift_mask.__wrapped__),
                (HungarianMatcher, 'forward', _match),
                (targets, 'values_on_host', _values_on_host)):
            stack.enter_context(patch.object(owner, name, stand_in))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield


class _Kernel(torch.autograd.Function):
    """Stands in for a kernel that keeps its inputs, and perhaps its output, for its gradients."""

    @staticmethod
    def forward(ctx: Any, shape: tuple[int, ...], keeps_output: bool,
                *inputs: Tensor) -> Tensor:
        out = inputs[0].new_empty(shape)
        # A kernel that keeps its output also keeps a sum per row of it.
        kept = (out, out.new_empty(shape[:-1], dtype=torch.float32)) if keeps_output else ()
        ctx.count = len(inputs)
        ctx.save_for_backward(*inputs, *kept)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        return None, None, *(torch.empty_like(x) for x in ctx.saved_tensors[:ctx.count])


def _attend(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Flash attention: keeps queries, keys, values, the output and a number per query."""
    inputs = [query, key, value]
    if torch.is_autocast_enabled(_DEVICE.type):
        inputs = [x.to(torch.get_autocast_dtype(_DEVICE.type)) for x in inputs]
    return _Kernel.apply(query.shape, True, *inputs)


def _sample_and_sum(value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor,
                    weights: Tensor) -> Tensor:
    """mmcv's kernel: keeps values, locations and weights."""
    shape = (*locations.shape[:2], value.shape[2] * value.shape[3])
    return _Kernel.apply(shape, False, value, locations, weights)


def _values_on_host(tensors: list[Tensor]) -> np.ndarray:
    """Join real tensors."""
    with _disable_current_modes():
        return _JOIN(tensors)


def _match(self: HungarianMatcher, predictions: Predictions, wanted: Targets, is_word: Tensor,
           masks: SampledMasks) -> Matches:
    """Compute all costs, then match every target to a query of its kind."""
    with torch.no_grad():
        self.cost(predictions, wanted, is_word, masks)
    known = wanted.on_host
    row, target = (np.arange(known.things.shape[1]) < known.count[:, None]).nonzero()
    query = np.where(known.things[row, target], target, predictions.num_dynamic + target)
    sets = len(predictions.logits)
    index = np.stack([np.arange(sets).repeat(len(row)), np.tile(row, sets),
                      np.tile(query, sets), np.tile(target, sets)])
    return Matches.on_device(index, predictions.logits.device)
