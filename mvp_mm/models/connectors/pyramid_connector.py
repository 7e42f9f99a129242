# Copyright (c) mvp_mm authors. All rights reserved.
"""A connector that reads all maps of the encoder."""
from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mvp_mm.models.connectors.mlp_connector import MLPConnector
from mvp_mm.models.position import grid_points, sine_embedding
from mvp_mm.registry import MODELS

# Highest frequency of the position code, in cycles over the canvas.
MAX_CYCLES = 4.0


@MODELS.register_module()
class PyramidConnector(BaseModule):
    """Turns all maps of the encoder into visual tokens, as many as :class:`MLPConnector`.

    Colour and fine texture fade towards the encoder's last map. Here each token also reads what
    the finer maps hold of its square, all positions of it, and a code of where it is. Maps pass a
    batch norm first: behind a layer norm over the square, colours are learned later. Batch norm
    reads the statistics of one process.

    Args:
        in_channels: Channels of the encoder's maps, finest first; each map has twice the sides of
            the next.
        out_channels: LLM width D.
        merge: Side of the square of positions of the last map that become one token.
    """

    multi_scale = True

    def __init__(self, in_channels: Sequence[int], out_channels: int, merge: int = 2) -> None:
        super().__init__()
        # Positions of each map along a token's side.
        self.sides = [merge * 2**depth for depth in reversed(range(len(in_channels)))]
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for channels in in_channels)
        self.projections = nn.ModuleList(
            nn.Linear(channels * side**2, out_channels)
            for channels, side in zip(in_channels, self.sides, strict=True))
        self.position = nn.Linear(out_channels, out_channels, bias=False)
        self.output = nn.Sequential(nn.GELU(), nn.Linear(out_channels, out_channels))

    num_tokens = staticmethod(MLPConnector.num_tokens)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Maps (B, C_l, H_l, W_l), finest first, to visual tokens (B, V, D), row by row.

        Raises:
            ValueError: If the last map's sides are no multiples of ``merge``, or a map has not
                twice the sides of the next.
        """
        merge = self.sides[-1]
        if any(size % merge for size in features[-1].shape[-2:]):
            raise ValueError(f'Feature map {tuple(features[-1].shape[-2:])} cannot be merged '
                             f'{merge} × {merge}')
        rows, columns = (size // merge for size in features[-1].shape[-2:])
        code = sine_embedding(grid_points([(rows, columns)], features[-1].device),
                              self.position.in_features // 2, MAX_CYCLES)
        tokens = self.position(code.to(features[-1].dtype))
        for feature, side, norm, projection in zip(
                features, self.sides, self.norms, self.projections, strict=True):
            if feature.shape[-2:] != (rows * side, columns * side):
                raise ValueError(f'Feature map {tuple(feature.shape[-2:])} should be of '
                                 f'{(rows * side, columns * side)}, {side} × {side} positions for '
                                 f'each of {rows} × {columns} tokens')
            squares = F.pixel_unshuffle(norm(feature), side)
            tokens = tokens + projection(squares.flatten(2).transpose(1, 2))
        return self.output(tokens)
