# Copyright (c) mvp_mm authors. All rights reserved.
"""A connector that reads finer maps of the encoder beside the last."""
from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from mvp_mm.models.connectors.mlp_connector import MLPConnector
from mvp_mm.registry import MODELS


@MODELS.register_module()
class PyramidConnector(MLPConnector):
    """Adds to each of :class:`MLPConnector`'s tokens what finer maps hold of its square.

    Colour and fine texture fade towards the encoder's last map. Each finer map has an MLP of its
    own over all its positions in a token's square. The MLP's last layer starts at zero, so the
    model starts as it was with :class:`MLPConnector`, whose weights this connector takes.

    Args:
        in_channels: Channels of the encoder's maps, finest first; each map has twice the sides of
            the next.
        out_channels: LLM width D.
        merge: Side of the square of positions of the last map that become one token.
        num_finer: How many maps before the last are read; 2 are those of stride 16 and 8.

    Raises:
        ValueError: If the encoder has no so many finer maps.
    """

    multi_scale = True

    def __init__(self, in_channels: Sequence[int], out_channels: int, merge: int = 2,
                 num_finer: int = 2) -> None:
        if not 1 <= num_finer < len(in_channels):
            raise ValueError(f'num_finer must be 1 to {len(in_channels) - 1}, the number of maps '
                             f'before the last; got {num_finer}')
        super().__init__(in_channels[-1], out_channels, merge)
        self.finer = nn.ModuleList()
        for depth in range(1, num_finer + 1):
            width = in_channels[-1 - depth] * (merge * 2**depth)**2
            last = nn.Linear(out_channels, out_channels)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.finer.append(nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, out_channels), nn.GELU(), last))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Maps (B, C_l, H_l, W_l), finest first, to visual tokens (B, V, D), row by row.

        Raises:
            ValueError: If the last map's sides are no multiples of ``merge``, or a finer map has
                not twice the sides of the next.
        """
        tokens = super().forward(features[-1])
        height, width = features[-1].shape[-2:]
        for depth, mlp in enumerate(self.finer, 1):
            feature, factor = features[-1 - depth], 2**depth
            if feature.shape[-2:] != (height * factor, width * factor):
                raise ValueError(
                    f'Feature map {tuple(feature.shape[-2:])} is not {factor} times as high and '
                    f'wide as the last, {(height, width)}')
            squares = F.pixel_unshuffle(feature, self.merge * factor)
            tokens = tokens + mlp(squares.flatten(2).transpose(1, 2))
        return tokens
