# Copyright (c) mvp_mm authors. All rights reserved.
"""A page and an HTTP server around a trained model; needs the extra ``serve``."""
from __future__ import annotations

from mvp_mm.serving.launch import launch
from mvp_mm.serving.limits import Limits

__all__ = ['Limits', 'launch']
