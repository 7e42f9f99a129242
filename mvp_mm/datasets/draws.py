# Copyright (c) mvp_mm authors. All rights reserved.
"""Indices that say which draw of a sampler they are, so that a sample's randomness follows."""
from __future__ import annotations

import random

import numpy as np
import torch

Draw = tuple[int, int, int]


class DrawnIndex(int):
    """A dataset index together with the draw that chose it.

    Wrappers such as ``ConcatDataset`` compute a member's index by subtraction, which keeps the
    draw. Samplers of this project yield these; a plain index has no draw.

    Args:
        index: The index.
        draw: Seed of the run, epoch of the dataset, index in the whole dataset. Random numbers of
            the sample follow from it alone, whatever process or worker reads it and however often
            the run was resumed.
    """

    def __new__(cls, index: int, draw: Draw) -> DrawnIndex:
        """Make an index that knows its draw."""
        drawn = super().__new__(cls, index)
        drawn.draw = draw
        return drawn

    def __sub__(self, other: int) -> DrawnIndex:
        return DrawnIndex(int(self) - int(other), self.draw)

    def __mod__(self, other: int) -> DrawnIndex:
        return DrawnIndex(int(self) % int(other), self.draw)

    def __reduce__(self) -> tuple:
        return DrawnIndex, (int(self), self.draw)


def seed_globals(*numbers: int) -> None:
    """Seed the global generators of ``random``, numpy and torch (CPU and GPUs) from numbers.

    Args:
        *numbers: Non-negative integers; other numbers, or another order, give other seeds.
    """
    first, second = np.random.SeedSequence(numbers).generate_state(2, dtype=np.uint64).tolist()
    random.seed(first)
    np.random.seed(second % 2**32)
    # torch.manual_seed formats a stack trace for each device that is not in use yet.
    torch.default_generator.manual_seed(second % 2**63)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(second % 2**63)
