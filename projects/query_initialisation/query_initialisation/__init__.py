# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from projects.query_initialisation.query_initialisation.generators import (
    DistinctQueryGenerator,
    DistinctSelection,
    GatedQueryGenerator,
)

__all__ = ['DistinctQueryGenerator', 'DistinctSelection', 'GatedQueryGenerator']
