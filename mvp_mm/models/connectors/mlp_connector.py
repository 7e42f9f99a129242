# Copyright (c) mvp_mm authors. All rights reserved.
"""The connector between the encoder's last map and the LLM."""
from __future__ import annotations

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mvp_mm.registry import MODELS


@MODELS.register_module()
class MLPConnector(BaseModule):
    """Turns the stride-32 map into visual tokens with a two-layer MLP (paper section 3.1).

    Args:
        in_channels: Channels of the encoder's last map.
        out_channels: LLM width D.
        merge: Side of the square of positions that become one token.
    """

    def __init__(self, in_channels: int, out_channels: int, merge: int = 2) -> None:
        super().__init__()
        self.merge = merge
        width = in_channels * merge * merge
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, out_channels), nn.GELU(),
            nn.Linear(out_channels, out_channels))

    @staticmethod
    def num_tokens(height: int, width: int, merge: int = 2) -> int:
        """Number V of visual tokens of a map of ``height`` × ``width`` positions.

        Raises:
            ValueError: If the map's sides are no multiples of ``merge``.
        """
        if height % merge or width % merge:
            raise ValueError(f'a feature map of {height} × {width} cannot be merged '
                             f'{merge} × {merge}')
        return height * width // merge**2

    def forward(self, feature: Tensor) -> Tensor:
        """Map (B, C5, H, W) to visual tokens (B, V, D), V = H·W / merge², row by row.

        Raises:
            ValueError: If the map's sides are no multiples of ``merge``.
        """
        if feature.shape[-2] % self.merge or feature.shape[-1] % self.merge:
            raise ValueError(f'Feature map {tuple(feature.shape[-2:])} cannot be merged '
                             f'{self.merge} × {self.merge}')
        merged = F.pixel_unshuffle(feature, self.merge)
        return self.mlp(merged.flatten(2).transpose(1, 2))
