# Copyright (c) mvp_mm authors. All rights reserved.
"""Points at which masks are compared (PointRend), shared by every set, row and query."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass
class SampledMasks:
    """Mask features and true masks at P points of the canvas.

    Sampling is linear, so a predicted mask at a point is the product of its embedding with the
    sampled features: no mask is ever computed as a whole, and features are sampled once however
    many masks are compared.

    Attributes:
        features: (B, P, C) mask features.
        truth: (n, P) values of the true masks in [0, 1].
        image_index: (R,) int64, the image of each row.
        known_index: ``image_index`` on the host; None where the device alone knows it.
        num_candidates: Number of importance-sampling candidates; later points are always used
            (PointRend). None where the points are the whole grid and all of them are used.
    """

    features: Tensor
    truth: Tensor
    image_index: Tensor
    num_candidates: int | None = None
    known_index: Sequence[int] | None = None

    @classmethod
    def on_grid(cls, features: Tensor, masks: Tensor, image_index: Tensor,
                known_index: Sequence[int] | None = None) -> SampledMasks:
        """Take the whole grid of the mask features as points.

        Args:
            features: (B, C, h, w) mask features.
            masks: (n, H, W) bool true masks.
            image_index: (R,) int64.
            known_index: The same on the host.
        """
        truth = masks_on_grid(masks, features.shape[-2:]).flatten(1)
        return cls(features.float().flatten(2).transpose(1, 2), truth, image_index,
                   known_index=known_index)

    @property
    def index_on_host(self) -> Sequence[int]:
        """``image_index`` on the host; where it does not know it, the device is asked."""
        return self.image_index.tolist() if self.known_index is None else self.known_index

    def of_rows(self, rows: Tensor, known_rows: Sequence[int] | None = None) -> SampledMasks:
        """Select rows (W,) in place of all R; ``known_rows`` are the same on the host."""
        known = None
        if known_rows is not None:
            index = self.index_on_host
            known = [index[row] for row in known_rows]
        return replace(self, image_index=self.image_index[rows], known_index=known)

    def uniform(self, count: int) -> tuple[Tensor, Tensor]:
        """Give features (B, P', C) and truth (n, P') at ``count`` uniform points or the whole grid.

        Raises:
            ValueError: If fewer uniform points were drawn.
        """
        if self.num_candidates is None:
            return self.features, self.truth
        if count > self.num_candidates:
            raise ValueError(f'{count} points are asked for, {self.num_candidates} were drawn')
        return self.features[:, :count], self.truth[:, :count]

    def by_image(self, rows: np.ndarray) -> tuple[np.ndarray, list[int]]:
        """Sort rows (n,) by image, on the host.

        Returns:
            The order (n,) that puts those of one image side by side, and the number of each of
            the B images.
        """
        image = np.array(self.index_on_host, dtype=np.int64)[rows]
        return (image.argsort(kind='stable'),
                np.bincount(image, minlength=len(self.features)).tolist())

    def logits(self, embed: Tensor, counts: list[int]) -> Tensor:
        """Compute the mask logits (n, P) at the points, in the precision of the features.

        Args:
            embed: (n, C) mask embeddings, those of one image next to each other.
            counts: Number of each of the B images.
        """
        parts = zip(embed.split(counts), self.features, strict=True)
        return torch.cat([part @ features.T for part, features in parts])


def uncertain(logits: Tensor, count: int) -> Tensor:
    """Find the indices (n, count), unordered, of the logits (n, P) nearest to zero."""
    return logits.detach().abs().topk(count, dim=1, largest=False, sorted=False).indices


def features_at_points(features: Tensor, points: Tensor) -> Tensor:
    """Sample maps at points bilinearly, zero outside, as ``grid_sample`` does.

    A point reads four whole pixels, whose channels lie together once the map is turned around;
    ``grid_sample`` would read them from C planes.

    Args:
        features: (B, C, h, w).
        points: (P, 2) xy in [0, 1].

    Returns:
        (B, P, C).
    """
    batch, channels, height, width = features.shape
    place = points * points.new_tensor([width, height]) - 0.5
    first = place.floor()
    share = place - first
    corner = first.long()[:, None] + torch.tensor(
        [[0, 0], [1, 0], [0, 1], [1, 1]], device=points.device)
    ones = torch.tensor([False, True], device=points.device)
    x = torch.where(ones, share[:, :1], 1 - share[:, :1])[:, [0, 1, 0, 1]]
    y = torch.where(ones, share[:, 1:], 1 - share[:, 1:])[:, [0, 0, 1, 1]]
    limit = corner.new_tensor([width, height])
    inside = ((corner >= 0) & (corner < limit)).all(-1)
    corner = torch.minimum(corner.clamp(min=0), limit - 1)
    pixel = corner[..., 1] * width + corner[..., 0]
    start = torch.arange(batch, device=points.device)[:, None, None] * (height * width)
    rows = features.flatten(2).transpose(1, 2).flatten(0, 1)
    found = F.embedding_bag(
        (pixel + start).flatten(0, 1), rows, mode='sum',
        per_sample_weights=(x * y * inside).to(rows.dtype).repeat(batch, 1))
    return found.view(batch, len(points), channels)


def masks_on_grid(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Compute the share of each grid cell that a mask covers: (n, H, W) bool → (n, h, w)."""
    return F.adaptive_avg_pool2d(masks[:, None].float(), size)[:, 0]


def masks_at_points(masks: Tensor, points: Tensor) -> Tensor:
    """Read masks (n, H, W) bool at points (P, 2) from the nearest pixel: (n, P) float."""
    height, width = masks.shape[-2:]
    x = (points[:, 0] * width).long().clamp(0, width - 1)
    y = (points[:, 1] * height).long().clamp(0, height - 1)
    return masks.flatten(1)[:, y * width + x].float()
