# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from projects.grpo.grpo.model import GRPOMVPLM

__all__ = ['GRPOMVPLM']
