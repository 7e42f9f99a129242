# Copyright (c) mvp_mm authors. All rights reserved.
"""The seam around multi-scale deformable attention.

Decoders name their attention by ``type``; another kernel is one more registered class with the
same constructor and forward.
"""
from __future__ import annotations

import torch
from mmcv.ops import MultiScaleDeformableAttention
from torch import Tensor

from mvp_mm.registry import MODELS


@MODELS.register_module()
class DeformableAttention(MultiScaleDeformableAttention):
    """mmcv's multi-scale deformable attention, without residual, dropout or mixed precision.

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
        """Attend.

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
            out = super().forward(
                query=query.float(), value=value.float(), identity=torch.zeros_like(query.float()),
                reference_points=reference.float()[:, :, None].expand(-1, -1, self.num_levels, -1),
                spatial_shapes=spatial_shapes, level_start_index=level_start_index,
                key_padding_mask=padding_mask)
        return out.to(dtype)
