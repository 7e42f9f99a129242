# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from mvp_mm.models.llms.causal_lm import CausalLM
from mvp_mm.models.llms.writing import Generation

__all__ = ['CausalLM', 'Generation']
