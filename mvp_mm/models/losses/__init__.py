# Copyright (c) mvp_mm authors. All rights reserved.
from mvp_mm.models.losses.criterion import PerceptionCriterion
from mvp_mm.models.losses.denoising import Denoising, DenoisingRows
from mvp_mm.models.losses.matcher import HungarianMatcher
from mvp_mm.models.losses.means import Mean, over_processes
from mvp_mm.models.losses.targets import MaskGeometry, Matches, Predictions, Targets

__all__ = [
    'Denoising', 'DenoisingRows', 'HungarianMatcher', 'MaskGeometry', 'Matches', 'Mean',
    'PerceptionCriterion', 'Predictions', 'Targets', 'over_processes'
]
