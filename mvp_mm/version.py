# Copyright (c) mvp_mm authors. All rights reserved.
"""The version of mvp_mm, the only place where it is written."""
from __future__ import annotations

__version__ = '0.1.0'
