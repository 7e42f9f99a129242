# Copyright (c) mvp_mm authors. All rights reserved.
"""Sine position codes and box arithmetic shared by pixel decoder and decoder."""
from __future__ import annotations

import math

import torch
from mmdet.models.layers import SinePositionalEncoding
from torch import Tensor

from mvp_mm.registry import MODELS


def sine_embedding(coordinates: Tensor, width: int, max_cycles: float = 1.0) -> Tensor:
    """Encode normalised coordinates.

    Frequencies grow geometrically from half a cycle over the canvas: every channel tells left
    from right. DETR's code also ends at one cycle, but with its temperature of 10 000 most
    channels of a narrow code would be constant.

    Args:
        coordinates: (..., n), each in [0, 1].
        width: Even number of channels per coordinate.
        max_cycles: Highest frequency, in cycles over the canvas.

    Returns:
        (..., n * width).
    """
    octaves = torch.linspace(0, 1, width // 2, device=coordinates.device)
    cycles = 0.5 * (2 * max_cycles) ** octaves
    angle = coordinates.float()[..., None] * 2 * math.pi * cycles
    return torch.cat([angle.sin(), angle.cos()], dim=-1).flatten(-2)


def detr_embedding(boxes: Tensor, width: int) -> Tensor:
    """Encode boxes as DAB-DETR, DINO and OpenSeeD do: y first, then x, width and height.

    The same numbers as mmdet's ``coordinate_to_encoding``, in a third of its operations.

    Args:
        boxes: (..., 4) cxcywh in [0, 1].
        width: Even number of channels per coordinate.

    Returns:
        (..., 4 * width).
    """
    steps = torch.arange(0, width, 2, device=boxes.device, dtype=torch.float32)
    period = 10000.0 ** (steps / width)
    x, y, size = boxes.split((1, 1, 2), dim=-1)
    angle = torch.cat([y, x, size], -1)[..., None] * (2 * math.pi) / period
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(-3)


def grid_points(shapes: list[tuple[int, int]], device: torch.device) -> Tensor:
    """Compute the centres (S, 2), xy in [0, 1] of the canvas, of all positions of all levels."""
    levels = []
    for height, width in shapes:
        y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
        x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
        grid_y, grid_x = torch.meshgrid(y, x, indexing='ij')
        levels.append(torch.stack([grid_x, grid_y], -1).view(-1, 2))
    return torch.cat(levels)


@MODELS.register_module()
class CyclePosition:
    """Encodes map positions by :func:`sine_embedding` of their centres."""

    def __call__(self, shapes: list[tuple[int, int]], width: int,
                 device: torch.device) -> Tensor:
        """Encode all positions of all levels, x first: (S, width)."""
        return sine_embedding(grid_points(shapes, device), width // 2)


@MODELS.register_module()
class DetrPosition:
    """Encodes map positions as DETR does, which MaskDINO's and Mask2Former's weights expect.

    Rows and columns are counted from one and divided by the map's sides; y comes first.
    """

    def __call__(self, shapes: list[tuple[int, int]], width: int,
                 device: torch.device) -> Tensor:
        """Encode all positions of all levels: (S, width)."""
        encode = SinePositionalEncoding(width // 2, normalize=True)
        codes = [encode(torch.zeros(1, *shape, dtype=torch.bool, device=device))
                 for shape in shapes]
        return torch.cat([code[0].flatten(1).T for code in codes])


def inverse_sigmoid(x: Tensor, eps: float = 1e-4) -> Tensor:
    """Compute the logit of probabilities; both sides are clamped to at least ``eps``."""
    x = x.clamp(0, 1)
    return (x.clamp(min=eps) / (1 - x).clamp(min=eps)).log()
