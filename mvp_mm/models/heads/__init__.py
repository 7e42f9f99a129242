# Copyright (c) mvp_mm authors. All rights reserved.
from mvp_mm.models.heads.perception_heads import (
    BoxHead,
    MaskHead,
    SimilarityHead,
    TextEmbeddings,
    mlp,
)

__all__ = ['BoxHead', 'MaskHead', 'SimilarityHead', 'TextEmbeddings', 'mlp']
