# Copyright (c) mvp_mm authors. All rights reserved.
"""Losses as sums and counts, until all processes have agreed on the counts."""
from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from mmdet.utils import reduce_mean
from torch import Tensor


class Mean(NamedTuple):
    """A weighted sum and what it is to be divided by; both of one shape, or the count scalar."""

    total: Tensor
    count: Tensor

    def scaled(self, weight: float) -> Mean:
        """The same mean with another weight."""
        return Mean(self.total * weight, self.count)


def over_processes(means: Mapping[str, Mean]) -> dict[str, Tensor]:
    """Divide scalar sums by their counts, averaged over the processes.

    Gradients averaged by data-parallel training then equal those of one process on the whole
    batch. All counts travel in one reduction: each further one would make every process wait for
    the slowest once more.

    Returns:
        One scalar a name.
    """
    counts = reduce_mean(torch.stack([mean.count.float() for mean in means.values()]))
    totals = torch.stack([mean.total for mean in means.values()])
    # An average over processes may be below one; where a count is zero, so is its sum.
    return dict(zip(means, (totals / counts.clamp(min=1e-6)).unbind(), strict=True))
