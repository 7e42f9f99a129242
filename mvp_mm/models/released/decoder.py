# Copyright (c) mvp_mm authors. All rights reserved.
"""The decoder of DINO, MaskDINO and OpenSeeD, which the authors' released code uses."""
from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mvp_mm.models.decoders.multi_granularity_decoder import DecoderLayer
from mvp_mm.models.heads import mlp
from mvp_mm.models.position import detr_embedding
from mvp_mm.models.state import ImageState, QueriesPerImage
from mvp_mm.registry import MODELS


@MODELS.register_module()
class DINODecoder(BaseModule):
    """Refines queries and their boxes layer by layer, as DINO does.

    Differences from :class:`MultiGranularityDecoder`: a box's code is DETR's and joins keys and
    queries of the attention alone; boxes of the next layer come from the states before the norm;
    a predicted box builds on the last layer's with its gradient (DINO's "look forward twice");
    states are normed once more for the heads.

    Args:
        embed_dims: Width C.
        num_layers: Layers L.
        num_heads: Attention heads.
        num_levels: Levels of the memory.
        num_points: Points P sampled per head and level.
        feedforward: Width of the feed-forward nets.
        attention_type: Registered deformable attention.
    """

    def __init__(self, embed_dims: int = 256, num_layers: int = 9, num_heads: int = 8,
                 num_levels: int = 4, num_points: int = 4, feedforward: int = 2048,
                 attention_type: str = 'DeformableAttention') -> None:
        super().__init__()
        self.embed_dims = embed_dims
        self.num_heads = num_heads
        attention = dict(type=attention_type, embed_dims=embed_dims, num_heads=num_heads,
                         num_levels=num_levels, num_points=num_points)
        self.layers = nn.ModuleList(
            DecoderLayer(attention, embed_dims, num_heads, feedforward, position_in_content=False)
            for _ in range(num_layers))
        self.position = mlp(2 * embed_dims, embed_dims, embed_dims)
        self.norm = nn.LayerNorm(embed_dims)

    def forward(self, queries: Tensor, boxes: Tensor, allowed: Tensor, state: ImageState,
                per_image: QueriesPerImage, box_head: nn.Module) -> tuple[Tensor, Tensor]:
        """Refine queries and boxes; see :meth:`MultiGranularityDecoder.forward` for the arguments.

        Returns:
            States for the heads (L + 1, R, Q, C), normed once for the initial queries and twice
            after a layer, and boxes (L + 1, R, Q, 4), the first being the references.
        """
        blocked = (~allowed).repeat_interleave(self.num_heads, 0)
        states, refined = [self.norm(queries)], [boxes]
        reference = boxes
        for layer in self.layers:
            code = detr_embedding(boxes.float(), self.embed_dims // 2)
            queries = layer(
                queries, self.position(code.to(queries.dtype)), boxes, state, per_image, blocked)
            normed = self.norm(queries)
            states.append(self.norm(normed))
            refined.append(box_head(normed, reference))
            reference = box_head(queries, boxes)
            boxes = reference.detach()
        return torch.stack(states), torch.stack(refined)
