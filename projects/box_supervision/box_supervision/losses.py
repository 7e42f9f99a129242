# Copyright (c) mvp_mm authors. All rights reserved.
"""Mask losses that need a box alone: projection and colour affinity (BoxInst)."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169),
           (0.019334, 0.119193, 0.950227))
_WHITE = (0.950456, 1.0, 1.088754)


def lab_colours(rgb: Tensor) -> Tensor:
    """Convert sRGB (…, 3, h, w) in [0, 1] to CIE L*a*b*, L from 0 to 100."""
    linear = torch.where(rgb > 0.04045, ((rgb.clamp(min=0) + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = torch.einsum('ij,...jhw->...ihw', rgb.new_tensor(_TO_XYZ), linear)
    xyz = xyz / xyz.new_tensor(_WHITE)[:, None, None]
    root = torch.where(xyz > 0.008856, xyz.clamp(min=1e-6) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = root.unbind(-3)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -3)


def box_masks(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Fill boxes (n, 4) cxcywh in [0, 1]: (n, h, w) bool, cells whose centre lies inside.

    A box that holds no centre gets the cell of its own.
    """
    inside = []
    for axis, cells in ((1, size[0]), (0, size[1])):
        centre = (torch.arange(cells, device=boxes.device) + 0.5) / cells
        middle, side = boxes[:, axis, None], boxes[:, axis + 2, None]
        own = (middle * cells).long().clamp(0, cells - 1) == torch.arange(
            cells, device=boxes.device)
        inside.append(((centre - middle).abs() <= side / 2) | own)
    return inside[0][:, :, None] & inside[1][:, None, :]


def projection_loss(logits: Tensor, boxes: Tensor) -> Tensor:
    """Compare the shadows of masks and boxes on both axes by Dice.

    Args:
        logits: (n, h, w).
        boxes: (n, h, w) bool.

    Returns:
        (n,) in [0, 2].
    """
    prob, total = logits.sigmoid(), logits.new_zeros(len(logits))
    for axis in (1, 2):
        shadow, wanted = prob.amax(axis), boxes.any(axis).to(prob.dtype)
        shared = 2 * (shadow * wanted).sum(1)
        total = total + 1 - shared / (shadow.square().sum(1) + wanted.sum(1)).clamp(min=1e-5)
    return total


def affinity_loss(logits: Tensor, boxes: Tensor, colours: Tensor, similarity: float,
                  dilation: int) -> Tensor:
    """Ask neighbours of like colour to be both inside or both outside of the mask.

    Args:
        logits: (n, h, w).
        boxes: (n, h, w) bool; pairs with at least one end inside count.
        colours: (n, 3, h, w) in L*a*b*.
        similarity: Pairs count whose similarity exp(-distance / 2) reaches it.
        dilation: Distance of neighbours in cells.

    Returns:
        (n,) mean of -log P(same side) over the pairs that count.
    """
    total, count = logits.new_zeros(len(logits)), logits.new_zeros(len(logits))
    within, outside = F.logsigmoid(logits), F.logsigmoid(-logits)
    for step in ((0, dilation), (dilation, 0), (dilation, dilation), (dilation, -dilation)):
        first, second = _ends(colours, *step)
        alike = (-0.5 * (first - second).norm(dim=1)).exp() >= similarity
        counted = (alike & torch.stack(_ends(boxes, *step)).any(0)).to(logits.dtype)
        same = torch.logaddexp(sum(_ends(within, *step)), sum(_ends(outside, *step)))
        total = total - (same * counted).sum((1, 2))
        count = count + counted.sum((1, 2))
    return total / count.clamp(min=1)


def box_supervision(logits: Tensor, boxes: Tensor, colours: Tensor, similarity: float,
                    dilation: int) -> tuple[Tensor, Tensor]:
    """Compute both losses (n,); arguments as for :func:`affinity_loss`.

    A mask of everything or nothing has no affinity loss. It therefore counts only where the mask
    fits its box (projection loss below 1/4), and the more the better it fits.
    """
    projection = projection_loss(logits, boxes)
    fits = (1 - 4 * projection.detach()).clamp(min=0)
    return projection, fits * affinity_loss(logits, boxes, colours, similarity, dilation)


def _ends(values: Tensor, down: int, right: int) -> tuple[Tensor, Tensor]:
    """Both ends of all pairs of cells (…, h, w) that lie ``down`` >= 0 and ``right`` apart."""
    height, width = values.shape[-2:]
    left = max(0, -right)
    return (values[..., :height - down, left:width - max(0, right)],
            values[..., down:, max(0, right):width - left])
