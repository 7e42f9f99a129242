# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from projects.open_vocabulary.open_vocabulary.metric import SplitPanopticQualityMetric
from projects.open_vocabulary.open_vocabulary.task import EnsemblePanopticTask

__all__ = ['EnsemblePanopticTask', 'SplitPanopticQualityMetric']
