# Copyright (c) mvp_mm authors. All rights reserved.
"""mvp_mm: versatile perception with a visual LLM (MVP-LM, arXiv 2507.16213)."""
from mvp_mm.utils.noise import silence_warnings
from mvp_mm.version import __version__

silence_warnings()

__all__ = ['__version__']
