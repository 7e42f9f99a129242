# Copyright (c) mvp_mm authors. All rights reserved.
"""The pixel decoder as in the authors' released code."""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mvp_mm.models.pixel_decoders import MSDeformPixelDecoder
from mvp_mm.registry import MODELS


@MODELS.register_module()
class ReleasedPixelDecoder(MSDeformPixelDecoder):
    """Attends to the whole canvas, its padding too, under DETR's position codes.

    Args:
        in_channels: Channels of the encoder's maps at strides 4, 8, 16, 32.
        embed_dims: Width C.
        num_layers: Deformable layers.
        num_heads: Attention heads.
        num_points: Points sampled per head and level.
        feedforward: Width of the feed-forward nets.
        attention_type: Registered deformable attention.
    """

    def __init__(self, in_channels: list[int], embed_dims: int = 256, num_layers: int = 6,
                 num_heads: int = 8, num_points: int = 4, feedforward: int = 2048,
                 attention_type: str = 'DeformableAttention') -> None:
        super().__init__(
            in_channels, embed_dims, num_layers, num_heads, num_points, feedforward,
            attention_type, position=dict(type='DetrPosition'))

    def forward(self, features: tuple[Tensor, ...], image_extent: Tensor) -> dict[str, Any]:
        """See :class:`MSDeformPixelDecoder`; the extent is taken for the whole canvas."""
        return super().forward(features, torch.ones_like(image_extent))
