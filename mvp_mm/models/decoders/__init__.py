# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from mvp_mm.models.decoders.multi_granularity_decoder import MultiGranularityDecoder

__all__ = ['MultiGranularityDecoder']
