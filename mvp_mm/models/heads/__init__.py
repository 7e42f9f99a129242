# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from mvp_mm.models.heads.perception_heads import BoxHead, MaskHead, SimilarityHead, mlp
from mvp_mm.models.heads.text_embeddings import DecodedQueries, TextEmbeddings

__all__ = ['BoxHead', 'DecodedQueries', 'MaskHead', 'SimilarityHead', 'TextEmbeddings', 'mlp']
