# Copyright (c) mvp_mm authors. All rights reserved.
from mvp_mm.ops.deformable_attention import DeformableAttention

__all__ = ['DeformableAttention']
