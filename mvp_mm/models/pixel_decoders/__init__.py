# Copyright (c) mvp_mm authors. All rights reserved.
from mvp_mm.models.pixel_decoders.ms_deform_pixel_decoder import MSDeformPixelDecoder

__all__ = ['MSDeformPixelDecoder']
