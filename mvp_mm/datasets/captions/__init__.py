# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from mvp_mm.datasets.captions.hedging import hedges
from mvp_mm.datasets.captions.refine import CaptionRefiner, Verdict, entropy_ratio
from mvp_mm.datasets.captions.store import CaptionStore

__all__ = ['CaptionRefiner', 'CaptionStore', 'Verdict', 'entropy_ratio', 'hedges']
