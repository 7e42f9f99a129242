# Copyright (c) mvp_mm authors. All rights reserved.
"""Losses as sums and counts, until all ranks have agreed on the counts."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from mmdet.utils import reduce_mean
from torch import Tensor


class WeightedSum(NamedTuple):
    """A weighted sum and the count that it is to be divided by.

    Attributes:
        total: Of any shape.
        count: Of the same shape, or a scalar.
    """

    total: Tensor
    count: Tensor

    def scaled(self, weight: float) -> WeightedSum:
        """Multiply the sum by a loss weight."""
        return WeightedSum(self.total * weight, self.count)


@dataclass
class ImageShares:
    """How much each row counts where every image counts the same.

    Attributes:
        weight: (R,) one over the number of rows of its image.
        num_images: () float, the B images of the batch, those without rows included.
    """

    weight: Tensor
    num_images: Tensor

    @classmethod
    def of(cls, image_index: Tensor, num_images: int) -> ImageShares:
        """Share images out among their rows.

        Args:
            image_index: (R,) int64, the image of each row.
            num_images: B.
        """
        images = torch.arange(num_images, device=image_index.device)
        rows = (image_index[:, None] == images).sum(0)
        return cls(1.0 / rows[image_index], rows.new_full((), num_images, dtype=torch.float32))

    def of_rows(self, source: Tensor) -> ImageShares:
        """Select rows ``source`` (W,), which count as much as before."""
        return ImageShares(self.weight[source], self.num_images)


def reduce_over_ranks(sums: Mapping[str, WeightedSum]) -> dict[str, Tensor]:
    """Divide scalar sums by their counts, averaged over the ranks.

    Gradients averaged by DDP or FSDP then equal those of one process on the whole batch. All
    counts travel in one all-reduce: each further one would make every rank wait for the slowest
    once more.

    Returns:
        One scalar per name.
    """
    counts = reduce_mean(torch.stack([value.count.float() for value in sums.values()]))
    totals = torch.stack([value.total for value in sums.values()])
    # An average over ranks may be below one; where a count is zero, so is its sum.
    return dict(zip(sums, (totals / counts.clamp(min=1e-6)).unbind(), strict=True))


def named_sets(values: dict[str, WeightedSum], prefixes: list[str]) -> dict[str, WeightedSum]:
    """Split the sums of S sets into scalars, with one prefix per set."""
    return {prefix + name: WeightedSum(total, count)
            for name, value in values.items()
            for prefix, total, count in zip(
                prefixes, value.total.unbind(), value.count.expand_as(value.total), strict=True)}


def read_scalars(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Read scalars from their device in one transfer; one by one, each waits for the device."""
    return dict(zip(values, torch.stack([value.detach() for value in values.values()]).tolist(),
                    strict=True))
