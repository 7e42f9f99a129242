# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from mvp_mm.models.encoders.image_encoder import ImageEncoder
from mvp_mm.models.encoders.plain_vit import PlainViT, SimpleFeaturePyramid
from mvp_mm.models.encoders.swin import SwinTransformer
from mvp_mm.models.encoders.timm_backbone import TimmBackbone

__all__ = ['ImageEncoder', 'PlainViT', 'SimpleFeaturePyramid', 'SwinTransformer', 'TimmBackbone']
