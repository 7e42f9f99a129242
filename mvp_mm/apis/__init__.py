# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from mvp_mm.utils.late_imports import late_imports

with late_imports():
    from mvp_mm.apis.answer import Answer, to_coco
    from mvp_mm.apis.inferencer import PerceptionInferencer
    from mvp_mm.apis.mvp import MVP, Picture

__all__ = ['MVP', 'Answer', 'PerceptionInferencer', 'Picture', 'to_coco']
