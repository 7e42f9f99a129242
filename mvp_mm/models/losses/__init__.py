# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from mvp_mm.models.losses.criterion import PerceptionCriterion
from mvp_mm.models.losses.denoising import Denoising, DenoisingRows
from mvp_mm.models.losses.matcher import HungarianMatcher
from mvp_mm.models.losses.sampling import SampledMasks
from mvp_mm.models.losses.targets import Matches, Predictions, Targets
from mvp_mm.models.losses.weighted_sum import (
    ImageShares,
    WeightedSum,
    named_sets,
    read_scalars,
    reduce_over_ranks,
)

__all__ = [
    'Denoising', 'DenoisingRows', 'HungarianMatcher', 'ImageShares', 'Matches',
    'PerceptionCriterion', 'Predictions', 'SampledMasks', 'Targets', 'WeightedSum', 'named_sets',
    'read_scalars', 'reduce_over_ranks'
]
