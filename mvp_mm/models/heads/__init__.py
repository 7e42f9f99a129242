# Copyright (c) mvp_mm authors. All rights reserved.
from mvp_mm.models.heads.perception_heads import BoxHead, MaskHead, SimilarityHead, mlp

__all__ = ['BoxHead', 'MaskHead', 'SimilarityHead', 'mlp']
