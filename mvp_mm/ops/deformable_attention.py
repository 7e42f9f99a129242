# Copyright (c) mvp_mm authors. All rights reserved.
"""Multi-scale deformable attention, behind a registry.

Decoders name their attention by ``type``; another kernel is one more registered class with the
same constructor and forward.
"""
from __future__ import annotations

import torch
from mmcv.ops import MultiScaleDeformableAttention
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttnFunction,
    multi_scale_deformable_attn_pytorch,
)
from torch import Tensor

from mvp_mm.ops.cpu_kernel import DeformableAttentionCPU, load_kernel
from mvp_mm.registry import MODELS


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
    if value.is_cuda:
        return MultiScaleDeformableAttnFunction.apply(
            value, shapes, starts, locations, weights, 64)
    if load_kernel() is not None and value.dtype == torch.float32:
        return DeformableAttentionCPU.apply(value, shapes, starts, locations, weights).flatten(2)
    return multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)


@MODELS.register_module()
class DeformableAttention(MultiScaleDeformableAttention):
    """Runs multi-scale deformable attention with mmcv's parameters, no residual, no dropout.

    mmcv's CUDA kernel has no bfloat16 version, so the module is a float32 island under autocast.

    Args:
        embed_dims: Width C.
        num_heads: Attention heads.
        num_levels: Feature levels in the memory.
        num_points: Points P sampled per head and level.
    """

    def __init__(self, embed_dims: int, num_heads: int = 8, num_levels: int = 4,
                 num_points: int = 4) -> None:
        super().__init__(
            embed_dims=embed_dims, num_heads=num_heads, num_levels=num_levels,
            num_points=num_points, dropout=0.0, batch_first=True)
        self.init_weights()

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
