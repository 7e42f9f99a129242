# Copyright (c) mvp_mm authors. All rights reserved.
from mvp_mm.models.encoders.image_encoder import ImageEncoder, TimmBackbone

__all__ = ['ImageEncoder', 'TimmBackbone']
