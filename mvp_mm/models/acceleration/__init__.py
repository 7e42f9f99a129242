# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from mvp_mm.models.acceleration.answering import accelerate_answers
from mvp_mm.models.acceleration.captured_text import CapturedRunner
from mvp_mm.models.acceleration.graphs import CapturedFunction
from mvp_mm.models.acceleration.training import accelerate_training

__all__ = ['CapturedFunction', 'CapturedRunner', 'accelerate_answers', 'accelerate_training']
