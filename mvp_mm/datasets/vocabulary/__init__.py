# Copyright (c) mvp_mm authors. All rights reserved.
"""Class lists of published datasets, styles of writing class names, and frequent phrases."""
from __future__ import annotations

