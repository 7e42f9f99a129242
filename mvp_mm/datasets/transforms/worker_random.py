# Copyright (c) mvp_mm authors. All rights reserved.
"""Random numbers of a data-loading process."""
from __future__ import annotations

import numpy as np
import torch
from mmengine.dist import get_rank
from torch.utils.data import get_worker_info


class WorkerGenerator:
    """A numpy generator of this worker's own, made anew when torch's seed changes.

    Args:
        purpose: Keeps the numbers of different transforms apart.
    """

    def __init__(self, purpose: int) -> None:
        self.purpose = purpose
        self._seed: tuple[int, ...] | None = None
        self._rng: np.random.Generator | None = None

    def __call__(self) -> np.random.Generator:
        """The generator."""
        worker = get_worker_info()
        seed = (torch.initial_seed(), worker.seed if worker else 0, get_rank(), self.purpose)
        if seed != self._seed:
            self._seed, self._rng = seed, np.random.default_rng(seed)
        return self._rng
