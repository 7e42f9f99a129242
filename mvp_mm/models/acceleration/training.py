# Copyright (c) mvp_mm authors. All rights reserved.
"""Makes training steps faster, without changing the model's code."""
from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import nn

from mvp_mm.models.acceleration.graphs import CapturedFunction
from mvp_mm.models.building import check_choice
from mvp_mm.models.llms.building import decoder_layers
from mvp_mm.models.mvp_lm import MVPLM

REGIONS = ('llm', 'pixel_decoder', 'decoder', 'heads')
# Layers of a kind share one piece of compiled code; variants are grad or not, mask or not, a
# batch of one or several.
_VARIANTS = 32


def compiled_regions(model: MVPLM, regions: Collection[str]) -> list[nn.Module]:
    """List the modules that ``regions`` name, one by one those that are repeated."""
    for region in regions:
        check_choice('compile', region, REGIONS)
    head = model.perception
    parts = dict(
        llm=list(decoder_layers(model.llm.lm)),
        pixel_decoder=list(model.pixel_decoder.layers),
        decoder=list(head.decoder.layers),
        heads=[head.similarity_head, head.box_head, head.mask_head])
    return [module for region in REGIONS if region in regions for module in parts[region]]


def accelerate_training(model: MVPLM, compile: Collection[str] = ('llm', 'pixel_decoder'),
                        capture_encoder: bool = True, tf32: bool = True,
                        backend: str | Callable = 'inductor') -> None:
    """Prepare a model for faster steps, in place.

    Args:
        model: The model, before it is wrapped for several processes.
        compile: Regions whose layers ``torch.compile`` makes one piece of code of, for all
            lengths: ``'llm'``, ``'pixel_decoder'``, ``'decoder'`` (of the queries), ``'heads'``.
            Kept layers of the LLM before the last (``llm.kept_layers``) break its code in pieces.
        capture_encoder: Replay a frozen encoder without neck as a CUDA graph, where there is CUDA.
        tf32: Let matrix products that stay in float32 run on tensor cores, with ten bits of
            mantissa.
        backend: Of ``torch.compile``.
    """
    if tf32:
        torch.set_float32_matmul_precision('high')
    if compile:
        torch._dynamo.config.cache_size_limit = max(
            torch._dynamo.config.cache_size_limit, _VARIANTS)
        # Numbers such as an epsilon never change; otherwise each call wraps them in tensors.
        torch._dynamo.config.specialize_float = True
    for module in compiled_regions(model, compile):
        if module._compiled_call_impl is None:
            module.compile(dynamic=True, backend=backend)
    backbone = model.encoder.backbone
    if (capture_encoder and model.encoder.frozen and next(backbone.parameters()).is_cuda
            and not isinstance(backbone.forward, CapturedFunction)):
        backbone.forward = CapturedFunction(backbone.forward)
