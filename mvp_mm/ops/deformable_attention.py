# Copyright (c) mvp_mm authors. All rights reserved.
"""Multi-scale deformable attention, behind a registry.

Decoders name their attention by ``type``; another kernel is one more registered class with the
same constructor and forward. Three kernels stand behind ours: mmcv's operator on CUDA, the
compiled one of :mod:`mvp_mm.ops.cpu_kernel` on the CPU, and torch's ``grid_sample`` where
neither is built.
"""
from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from torch import Tensor, nn

from mvp_mm.ops.cpu_kernel import DeformableAttentionCPU, load_kernel
from mvp_mm.ops.traceable_sampling import (
    IMAGES_PER_LAUNCH,
    can_trace,
    traceable_sample_and_sum,
)
from mvp_mm.registry import MODELS
from mvp_mm.utils.mmcv_operators import has_operators


@cache
def load_cuda_operator() -> type[torch.autograd.Function] | None:
    """Load mmcv's CUDA operator; None (said once in the log) where mmcv has no compiled operators.

    Raises:
        RuntimeError: If mmcv's operators are there but do not load.
    """
    if not has_operators():
        MMLogger.get_current_instance().warning(
            'mmcv was installed without its compiled operators; deformable attention runs on '
            'torch, slower and with more memory. See docs/get_started/installation.md')
        return None
    try:
        from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction
    except ImportError as error:
        raise RuntimeError(
            f'mmcv\'s compiled operators do not load ({error}). They were built against another '
            f'torch than {torch.__version__}: build onedl-mmcv again') from error
    return MultiScaleDeformableAttnFunction


def sample_with_torch(value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Sum values sampled at points by weight, with ``grid_sample`` of torch.

    Arguments and result are those of :func:`sample_and_sum`.
    """
    batch, _, heads, channels = value.shape
    queries = locations.shape[1]
    # One map per image and head; grid_sample's coordinates go from -1 to 1.
    maps = value.permute(0, 2, 3, 1).flatten(0, 1)
    grid = (2 * locations - 1).transpose(1, 2).flatten(0, 1)
    weights = weights.transpose(1, 2).flatten(0, 1)
    total = value.new_zeros(batch * heads, channels, queries)
    start = 0
    for level, (height, width) in enumerate(shapes.tolist()):
        end = start + height * width
        sampled = F.grid_sample(
            maps[..., start:end].unflatten(-1, (height, width)), grid[:, :, level],
            mode='bilinear', padding_mode='zeros', align_corners=False)
        total = total + torch.einsum('bcqp,bqp->bcq', sampled, weights[:, :, level])
        start = end
    return total.view(batch, heads * channels, queries).transpose(1, 2).contiguous()


def sample_and_sum(value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor,
                   weights: Tensor) -> Tensor:
    """Sum values sampled at points by weight: the kernel of deformable attention.

    Args:
        value: (B, S, H, D) float32, H heads of D channels.
        shapes: (L, 2) int64.
        starts: (L,) int64.
        locations: (B, Q, H, L, P, 2), xy in [0, 1].
        weights: (B, Q, H, L, P).

    Returns:
        (B, Q, H · D).
    """
    if torch.compiler.is_compiling() and can_trace(value):
        return traceable_sample_and_sum(value, shapes, starts, locations, weights)
    if value.is_cuda and load_cuda_operator() is not None:
        return load_cuda_operator().apply(
            value, shapes, starts, locations, weights, IMAGES_PER_LAUNCH)
    on_cpu = value.device.type == 'cpu' and value.dtype == torch.float32
    if on_cpu and load_kernel() is not None:
        return DeformableAttentionCPU.apply(value, shapes, starts, locations, weights).flatten(2)
    return sample_with_torch(value, shapes, locations, weights)


@MODELS.register_module()
class DeformableAttention(nn.Module):
    """Runs multi-scale deformable attention (Deformable DETR, arXiv 2010.04159, section 4.1).

    Its parameters have mmcv's names; there is no residual and no dropout.

    mmcv's CUDA kernel has no bfloat16 version, so the module is a float32 island under autocast.

    Args:
        embed_dims: Width C.
        num_heads: Attention heads.
        num_levels: Feature levels in the memory.
        num_points: Points P sampled per head and level.
    """

    def __init__(self, embed_dims: int, num_heads: int = 8, num_levels: int = 4,
                 num_points: int = 4) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ValueError(f'embed_dims must be a multiple of num_heads, got {embed_dims} and '
                             f'{num_heads}')
        self.embed_dims, self.num_heads = embed_dims, num_heads
        self.num_levels, self.num_points = num_levels, num_points
        points = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(embed_dims, points * 2)
        self.attention_weights = nn.Linear(embed_dims, points)
        self.value_proj = nn.Linear(embed_dims, embed_dims)
        self.output_proj = nn.Linear(embed_dims, embed_dims)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Let head h look along direction h, its points 1, 2, … steps away, weighted alike."""
        for layer in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        angles = torch.arange(self.num_heads, dtype=torch.float32) * (2 * math.pi / self.num_heads)
        directions = torch.stack([angles.cos(), angles.sin()], -1)
        directions = directions / directions.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.num_points + 1, dtype=torch.float32)
        offsets = directions[:, None, None] * steps[:, None]
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(
                offsets.expand(-1, self.num_levels, -1, -1).flatten())
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, query: Tensor, value: Tensor, reference: Tensor, spatial_shapes: Tensor,
                level_start_index: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Attend to the memory around reference points.

        Args:
            query: (B, Q, C), position already added.
            value: (B, S, C) memory.
            reference: (B, Q, 2) points xy or (B, Q, 4) boxes cxcywh, normalised by the canvas.
            spatial_shapes: (levels, 2) int64, heights and widths.
            level_start_index: (levels,) int64.
            padding_mask: (B, S) bool, True where the memory is padding.

        Returns:
            (B, Q, C).
        """
        dtype = query.dtype
        with torch.autocast(query.device.type, enabled=False):
            value = self.value_proj(value.float())
            if padding_mask is not None:
                value = value.masked_fill(padding_mask[..., None], 0.0)
            value = value.view(*value.shape[:2], self.num_heads, -1)
            locations, weights = self._points(query.float(), reference.float(), spatial_shapes)
            out = sample_and_sum(value, spatial_shapes, level_start_index, locations, weights)
            return self.output_proj(out).to(dtype)

    def _points(self, query: Tensor, reference: Tensor,
                shapes: Tensor) -> tuple[Tensor, Tensor]:
        """Locations (B, Q, H, L, P, 2) and weights (B, Q, H, L, P) of a query's points."""
        batch, queries = query.shape[:2]
        grid = (batch, queries, self.num_heads, self.num_levels, self.num_points)
        offsets = self.sampling_offsets(query).view(*grid, 2)
        weights = self.attention_weights(query).view(batch, queries, self.num_heads, -1)
        centre = reference[:, :, None, None, None, :2]
        if reference.shape[-1] == 2:
            offsets = offsets / shapes.flip(1)[None, None, None, :, None]
        else:
            # Offsets are in half box sizes, shared out among the points.
            offsets = offsets / self.num_points * reference[:, :, None, None, None, 2:] * 0.5
        return centre + offsets, weights.softmax(-1).view(grid)
