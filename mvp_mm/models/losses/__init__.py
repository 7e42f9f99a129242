# Copyright (c) mvp_mm authors. All rights reserved.
from mvp_mm.models.losses.criterion import PerceptionCriterion
from mvp_mm.models.losses.denoising import Denoising, DenoisingRows
from mvp_mm.models.losses.matcher import HungarianMatcher
from mvp_mm.models.losses.means import Mean, over_processes
from mvp_mm.models.losses.sampling import SampledMasks
from mvp_mm.models.losses.targets import Matches, Predictions, Targets

__all__ = [
    'Denoising', 'DenoisingRows', 'HungarianMatcher', 'Matches', 'Mean',
    'PerceptionCriterion', 'Predictions', 'SampledMasks', 'Targets', 'over_processes'
]
