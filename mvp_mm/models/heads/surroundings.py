# Copyright (c) mvp_mm authors. All rights reserved.
"""What lies around a query's box, and its similarity to sentences ("the circle on the grass")."""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvp_mm.models.state import ImageState, QueriesPerImage

_POINTS = 8
# Half axes of the ellipse in widths and heights of the box: outside of it, near by.
_HALF_AXES = 0.8
# Of the product. AdamW moves all weights at one rate, and what tells surroundings apart has to grow
# from zero on an eighth of the sentences: five times as fast, it does.
_GAIN = 5.0


@torch.no_grad()
def memory_around(boxes: Tensor, state: ImageState, per_image: QueriesPerImage) -> Tensor:
    """Average the memory's finest level on an ellipse around each box.

    Points beyond the image do not count; where all are beyond it, the mean is zero. There is no
    gradient, neither to the memory nor to the boxes.

    Args:
        boxes: (…, R, Q, 4) cxcywh in [0, 1].
        state: The images.
        per_image: The image of each row.

    Returns:
        (…, R, Q, C) float32.
    """
    by_row = boxes.float().movedim(-3, 0)
    centre, size = per_image.pack(by_row.flatten(1, -2)).split(2, dim=-1)
    angles = torch.arange(_POINTS, device=boxes.device) * (2 * math.pi / _POINTS)
    directions = torch.stack([angles.cos(), angles.sin()], -1)
    points = centre[:, :, None] + _HALF_AXES * size[:, :, None] * directions
    height, width = state.shapes[0]
    inside = ~state.padding_mask[:, :height * width, None]
    memory = state.memory[:, :height * width].float() * inside
    # A last channel of ones counts the points within the image, by bilinear weight.
    maps = torch.cat([memory, inside.float()], -1).transpose(1, 2).unflatten(2, (height, width))
    total = F.grid_sample(maps, 2 * points - 1, align_corners=False).sum(-1).transpose(1, 2)
    mean = total[..., :-1] / total[..., -1:].clamp(min=1e-3)
    return per_image.unpack(mean).view(*by_row.shape[:-1], -1).movedim(0, -3)


class SurroundingsSimilarity(nn.Module):
    """Scores what lies around queries against sentences: a scaled product of two projections.

    Not a cosine: most sentences say nothing about surroundings, and their projection can be zero.
    With cosines, whose size is fixed, surroundings disturb those sentences, and are not learned.

    Args:
        embed_dims: Width C.
        dims: Width of the projections.
    """

    def __init__(self, embed_dims: int, dims: int) -> None:
        super().__init__()
        self.dims = dims
        self.visual = nn.Sequential(nn.LayerNorm(embed_dims), nn.Linear(embed_dims, dims))

    def text_projection(self, llm_dims: int) -> nn.Sequential:
        """Build the projection of the LLM's states: zero at the start, so nothing is disturbed."""
        last = nn.Linear(llm_dims, self.dims)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        return nn.Sequential(nn.LayerNorm(llm_dims), last)

    def forward(self, around: Tensor, text: Tensor) -> Tensor:
        """Score (…, R, Q, K) surroundings (…, R, Q, C) by projected sentences (R, K, dims)."""
        visual = self.visual(around)
        with torch.autocast(around.device.type, enabled=False):
            return _GAIN * (visual.float() @ text.float().transpose(-1, -2))
