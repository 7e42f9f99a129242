# Copyright (c) mvp_mm authors. All rights reserved.
"""Copies kept keys and values for sequences that continue them."""
from __future__ import annotations

from transformers import DynamicCache


def spread(cache: DynamicCache, rows: int) -> DynamicCache:
    """Copy the keys and values of one row for several, which make them grow."""
    return DynamicCache([
        (layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1))
        for layer in cache.layers])
