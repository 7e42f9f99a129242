# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from mvp_mm.ops.deformable_attention import DeformableAttention

__all__ = ['DeformableAttention']
