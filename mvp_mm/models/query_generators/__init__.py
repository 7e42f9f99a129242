# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from mvp_mm.models.query_generators.query_generators import (
    DynamicQueryGenerator,
    LearnableQueryGenerator,
    QuerySet,
    VisualQueryGenerator,
)

__all__ = ['DynamicQueryGenerator', 'LearnableQueryGenerator', 'QuerySet', 'VisualQueryGenerator']
