# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from mvp_mm.apis.inferencer import PerceptionInferencer

__all__ = ['PerceptionInferencer']
