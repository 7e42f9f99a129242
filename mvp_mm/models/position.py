# Copyright (c) mvp_mm authors. All rights reserved.
"""Sine position codes and box arithmetic shared by pixel decoder and decoder."""
from __future__ import annotations

import math

import torch
from torch import Tensor


def sine_embedding(coordinates: Tensor, width: int, temperature: float = 10000.0) -> Tensor:
    """Encode normalised coordinates.

    Args:
        coordinates: (..., n), each in [0, 1].
        width: Even number of channels per coordinate.

    Returns:
        (..., n * width).
    """
    steps = torch.arange(width // 2, dtype=torch.float32, device=coordinates.device)
    frequency = temperature ** (-2 * steps / width)
    angle = coordinates.float()[..., None] * 2 * math.pi * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1).flatten(-2)


def grid_points(shapes: list[tuple[int, int]], device: torch.device) -> Tensor:
    """Centres (S, 2), xy in [0, 1] of the canvas, of all positions of all levels."""
    levels = []
    for height, width in shapes:
        y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
        x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
        grid_y, grid_x = torch.meshgrid(y, x, indexing='ij')
        levels.append(torch.stack([grid_x, grid_y], -1).view(-1, 2))
    return torch.cat(levels)


def inverse_sigmoid(x: Tensor, eps: float = 1e-4) -> Tensor:
    """Logit of probabilities, clamped away from 0 and 1."""
    return torch.logit(x, eps=eps)
