# Copyright (c) mvp_mm authors. All rights reserved.
"""The sampling of deformable attention as one operator that ``torch.compile`` can trace.

mmcv's operator and ours of the CPU are called through autograd functions of Python around compiled
extensions, which end a traced graph. Outside of compiled regions they are called directly: a
registered operator costs the host more per call.
"""
from __future__ import annotations

from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from mvp_mm.ops.cpu_kernel import load_kernel
from mvp_mm.utils.mmcv_operators import has_operators

# Images that mmcv's kernel takes at once.
IMAGES_PER_LAUNCH = 64


@cache
def _mmcv_extension() -> ModuleType:
    from mmcv.ops.multi_scale_deform_attn import ext_module
    return ext_module


def can_trace(value: Tensor) -> bool:
    """Whether a kernel for float32 values on this device stands behind the operator."""
    return value.dtype == torch.float32 and _has_kernel(value.device.type)


@torch.compiler.assume_constant_result
def _has_kernel(device: str) -> bool:
    return (device == 'cuda' and has_operators()) or (device == 'cpu' and load_kernel() is not None)


@torch.library.custom_op('mvp_mm::sample_and_sum', mutates_args=())
def traceable_sample_and_sum(value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor,
                             weights: Tensor) -> Tensor:
    """Sum values sampled at points by weight.

    Arguments and result are those of
    :func:`~mvp_mm.ops.deformable_attention.sample_and_sum`.
    """
    inputs = [x.contiguous() for x in (value, shapes, starts, locations, weights)]
    if value.is_cuda:
        return _mmcv_extension().ms_deform_attn_forward(*inputs, im2col_step=IMAGES_PER_LAUNCH)
    return load_kernel().deform_attn_forward(*inputs).flatten(2)


@traceable_sample_and_sum.register_fake
def _(value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor,
      weights: Tensor) -> Tensor:
    return value.new_empty(value.shape[0], locations.shape[1], value.shape[2] * value.shape[3])


@torch.library.custom_op('mvp_mm::sample_and_sum_backward', mutates_args=())
def _backward(grad: Tensor, value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor,
              weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    inputs = [x.contiguous() for x in (value, shapes, starts, locations, weights)]
    if not value.is_cuda:
        grad = grad.unflatten(2, value.shape[2:])
        return load_kernel().deform_attn_backward(grad.contiguous(), *inputs)
    grads = [torch.zeros_like(inputs[i]) for i in (0, 3, 4)]
    _mmcv_extension().ms_deform_attn_backward(
        *inputs, grad.contiguous(), *grads, im2col_step=IMAGES_PER_LAUNCH)
    return tuple(grads)


@_backward.register_fake
def _(grad: Tensor, value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor,
      weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(x.new_empty(x.shape) for x in (value, locations, weights))


def _keep_inputs(ctx, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    value, locations, weights = _backward(grad, *ctx.saved_tensors)
    return value, None, None, locations, weights


traceable_sample_and_sum.register_autograd(_differentiate, setup_context=_keep_inputs)
