# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from projects.caption_tuning.caption_tuning.model import CaptionTuning, KeptLanguage

__all__ = ['CaptionTuning', 'KeptLanguage']
