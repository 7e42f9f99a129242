# Copyright (c) mvp_mm authors. All rights reserved.
"""Parts that behave as the authors' released code does, where that differs from the paper.

Weights trained with that code belong here.
"""
from __future__ import annotations

from mvp_mm.models.released.criterion import ReleasedCriterion
from mvp_mm.models.released.decoder import DINODecoder
from mvp_mm.models.released.denoising import DenoisingQueries, ReleasedDenoising
from mvp_mm.models.released.heads import ReleasedBoxHead, ReleasedSimilarityHead
from mvp_mm.models.released.matcher import ReleasedMatcher
from mvp_mm.models.released.model import ReleasedMVPLM
from mvp_mm.models.released.perception import ReleasedPerceptionHead
from mvp_mm.models.released.pixel_decoder import ReleasedPixelDecoder
from mvp_mm.models.released.query_generator import ReleasedQueryGenerator

__all__ = [
    'DINODecoder', 'DenoisingQueries', 'ReleasedBoxHead', 'ReleasedCriterion',
    'ReleasedDenoising', 'ReleasedMVPLM', 'ReleasedMatcher', 'ReleasedPerceptionHead',
    'ReleasedPixelDecoder', 'ReleasedQueryGenerator', 'ReleasedSimilarityHead'
]
