# Copyright (c) mvp_mm authors. All rights reserved.
"""mvp_mm: versatile perception with a visual LLM (MVP-LM, arXiv 2507.16213)."""
from __future__ import annotations

from mvp_mm.utils.mmcv_operators import allow_missing_operators
from mvp_mm.utils.noise import silence_warnings
from mvp_mm.version import __version__

silence_warnings()
allow_missing_operators()

__all__ = ['__version__']
