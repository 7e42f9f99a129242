# Copyright (c) mvp_mm authors. All rights reserved.
"""Endless sampling from one dataset."""
from __future__ import annotations

from collections.abc import Iterator

from mmengine.dataset import InfiniteSampler as EndlessSampler

from mvp_mm.datasets.draws import DrawnIndex
from mvp_mm.registry import SAMPLERS


@SAMPLERS.register_module()
class InfiniteSampler(EndlessSampler):
    """Walks through one permutation of the dataset after another, as mmengine's sampler does.

    Order and arguments are those of :class:`mmengine.dataset.InfiniteSampler`; every index also
    says which draw it is, so that random transforms continue exactly after a resume.
    """

    tells_draws = True

    def _infinite_indices(self) -> Iterator[DrawnIndex]:
        for number, index in enumerate(super()._infinite_indices()):
            yield DrawnIndex(index, (self.seed, number // self.size, index))
