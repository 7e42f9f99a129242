# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from mvp_mm.models import (
    connectors,
    decoders,
    encoders,
    heads,
    llms,
    losses,
    pixel_decoders,
    query_generators,
    released,
)
from mvp_mm.models.data_preprocessor import PerceptionDataPreprocessor
from mvp_mm.models.mvp_lm import MVPLM
from mvp_mm.models.perception import PerceptionHead

__all__ = [
    'MVPLM', 'PerceptionDataPreprocessor', 'PerceptionHead', 'connectors', 'decoders',
    'encoders', 'heads', 'llms', 'losses', 'pixel_decoders', 'query_generators', 'released'
]
