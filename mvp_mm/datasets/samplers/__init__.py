# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from mvp_mm.datasets.samplers.infinite_sampler import InfiniteSampler
from mvp_mm.datasets.samplers.ratio_sampler import RatioSampler
from mvp_mm.datasets.samplers.subset_sampler import SubsetSampler

__all__ = ['InfiniteSampler', 'RatioSampler', 'SubsetSampler']
