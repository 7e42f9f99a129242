# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from projects.counting.counting.metric import CountingMetric
from projects.counting.counting.task import CountingTask

__all__ = ['CountingMetric', 'CountingTask']
