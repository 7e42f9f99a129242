# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from mvp_mm.models.pixel_decoders.ms_deform_pixel_decoder import MSDeformPixelDecoder

__all__ = ['MSDeformPixelDecoder']
