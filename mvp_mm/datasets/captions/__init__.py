# Copyright (c) mvp_mm authors. All rights reserved.
from mvp_mm.datasets.captions.refine import CaptionRefiner, entropy_ratio, hedges
from mvp_mm.datasets.captions.store import CaptionStore

__all__ = ['CaptionRefiner', 'CaptionStore', 'entropy_ratio', 'hedges']
