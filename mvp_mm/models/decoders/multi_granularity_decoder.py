# Copyright (c) mvp_mm authors. All rights reserved.
"""The multi-granularity decoder (paper section 3.1)."""
from __future__ import annotations

from typing import Literal

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mvp_mm.models.building import check_choice, checkpointed
from mvp_mm.models.heads import mlp
from mvp_mm.models.position import detr_embedding, sine_embedding
from mvp_mm.models.state import ImageState, QueriesPerImage
from mvp_mm.registry import MODELS


class DecoderLayer(nn.Module):
    """Runs self-attention, multi-scale deformable cross-attention and an FFN; post-norm."""

    def __init__(self, attention: dict, embed_dims: int, num_heads: int, feedforward: int,
                 position_in_content: bool) -> None:
        super().__init__()
        self.position_in_content = position_in_content
        self.self_attention = nn.MultiheadAttention(embed_dims, num_heads, batch_first=True)
        self.norm1 = nn.LayerNorm(embed_dims)
        self.cross_attention = MODELS.build(attention)
        self.norm2 = nn.LayerNorm(embed_dims)
        self.feedforward = nn.Sequential(
            nn.Linear(embed_dims, feedforward), nn.ReLU(), nn.Linear(feedforward, embed_dims))
        self.norm3 = nn.LayerNorm(embed_dims)

    def forward(self, queries: Tensor, position: Tensor, boxes: Tensor, state: ImageState,
                per_image: QueriesPerImage, blocked: Tensor) -> Tensor:
        """Update queries (R, Q, C); ``position`` (R, Q, C) codes their boxes (R, Q, 4)."""
        if self.position_in_content:
            queries = queries + position
        keyed = queries + position
        attended = self.self_attention(keyed, keyed, queries, attn_mask=blocked,
                                       need_weights=False)[0]
        queries = self.norm1(queries + attended)
        # Rows of one image share its memory: their queries stand side by side.
        attended = self.cross_attention(
            per_image.pack(queries + position), state.memory, per_image.pack(boxes),
            state.spatial_shapes, state.level_start_index, state.padding_mask)
        queries = self.norm2(queries + per_image.unpack(attended))
        return self.norm3(queries + self.feedforward(queries))


@MODELS.register_module()
class MultiGranularityDecoder(BaseModule):
    """Refines queries and their boxes layer by layer.

    By default box codes are those of DAB-DETR, DINO and OpenSeeD, on which the paper builds.

    Args:
        embed_dims: Width C.
        num_layers: Layers L.
        num_heads: Attention heads.
        num_levels: Levels of the memory.
        num_points: Points P sampled per head and level.
        feedforward: Width of the feed-forward nets.
        attention_type: Registered deformable attention.
        position_in_content: Add the code of a query's box to its content before every layer. In
            DETR's decoders only the keys and queries of the attention see it, so that neither
            what a query tells others nor what it answers knows where it is; "the leftmost" and
            "the second from the left" are then hardly learned.
        position_code: How a query's box is encoded: ``'detr'``, an MLP of DETR's code with its
            temperature, or ``'cycles'``, a normed MLP of
            :func:`~mvp_mm.models.position.sine_embedding`.
        gradient_checkpointing: Gradient checkpointing: recompute a layer's activations in the
            backward pass.
    """

    def __init__(self, embed_dims: int = 256, num_layers: int = 9, num_heads: int = 8,
                 num_levels: int = 4, num_points: int = 4, feedforward: int = 2048,
                 attention_type: str = 'DeformableAttention',
                 position_in_content: bool = False,
                 position_code: Literal['detr', 'cycles'] = 'detr',
                 gradient_checkpointing: bool = False) -> None:
        super().__init__()
        self.gradient_checkpointing = gradient_checkpointing
        check_choice('decoder.position_code', position_code, ('detr', 'cycles'))
        self.encode = sine_embedding if position_code == 'cycles' else detr_embedding
        self.embed_dims = embed_dims
        self.num_heads = num_heads
        attention = dict(type=attention_type, embed_dims=embed_dims, num_heads=num_heads,
                         num_levels=num_levels, num_points=num_points)
        self.layers = nn.ModuleList(
            DecoderLayer(attention, embed_dims, num_heads, feedforward, position_in_content)
            for _ in range(num_layers))
        # Normed: as large as the content that it is added to, from the first step on.
        norm = nn.LayerNorm(embed_dims) if position_code == 'cycles' else nn.Identity()
        self.position = nn.Sequential(mlp(2 * embed_dims, embed_dims, embed_dims), norm)
        self.norm = nn.LayerNorm(embed_dims)

    def forward(self, queries: Tensor, boxes: Tensor, allowed: Tensor, state: ImageState,
                per_image: QueriesPerImage, box_head: nn.Module) -> tuple[Tensor, Tensor]:
        """Refine the queries layer by layer.

        Args:
            queries: (R, Q, C) content queries.
            boxes: (R, Q, 4) reference boxes cxcywh in [0, 1].
            allowed: (R, Q, Q) bool, whether a query (dim 1) sees another (dim 2); every query
                must see at least itself.
            state: The images.
            per_image: The image of each row.
            box_head: The shared box head.

        Returns:
            Normed queries (L + 1, R, Q, C) and boxes (L + 1, R, Q, 4): of the initial queries,
            then after every layer.
        """
        blocked = (~allowed).repeat_interleave(self.num_heads, 0)
        normed = self.norm(queries)
        states, refined = [normed], [box_head(normed, boxes)]
        for layer in checkpointed(self.layers, self.gradient_checkpointing and self.training):
            code = self.encode(boxes.float(), self.embed_dims // 2)
            position = self.position(code.to(queries.dtype))
            queries = layer(queries, position, boxes, state, per_image, blocked)
            states.append(self.norm(queries))
            refined.append(box_head(states[-1], boxes))
            boxes = refined[-1].detach()
        return torch.stack(states), torch.stack(refined)
