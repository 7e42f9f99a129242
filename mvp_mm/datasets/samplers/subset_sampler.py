# Copyright (c) mvp_mm authors. All rights reserved.
"""A fixed random part of a dataset, for validation during training."""
from __future__ import annotations

from collections.abc import Iterator, Sized

import numpy as np
from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from mvp_mm.registry import SAMPLERS


@SAMPLERS.register_module()
class SubsetSampler(Sampler):
    """Draws a fixed random subset of a dataset, the same in every run and at every pass.

    Each rank reads its share of the subset; none is repeated.

    Args:
        dataset: The dataset.
        number: Size of the subset; a dataset that has no more is read whole.
        seed: Says which subset. It is not the run's seed: runs stay comparable.

    Raises:
        ValueError: If ``number`` is not positive.
    """

    round_up = False

    def __init__(self, dataset: Sized, number: int, seed: int = 0) -> None:
        if number < 1:
            raise ValueError(f'SubsetSampler.number must be 1 or more, got {number!r}')
        rank, world_size = get_dist_info()
        chosen = np.random.default_rng(seed).permutation(len(dataset))[:number]
        # In the order of the file, which is faster to read.
        self._indices = np.sort(chosen)[rank::world_size].tolist()

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)

    def set_epoch(self, epoch: int) -> None:
        """Keep the subset, whatever the epoch."""
