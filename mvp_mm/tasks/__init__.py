# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from mvp_mm.tasks.base import BaseTask
from mvp_mm.tasks.captioning import CaptionTask
from mvp_mm.tasks.detection import DetectionTask
from mvp_mm.tasks.generalized_referring import GeneralizedReferringTask
from mvp_mm.tasks.grounding import PhraseGroundingTask
from mvp_mm.tasks.instance import InstanceTask
from mvp_mm.tasks.panoptic import PanopticTask
from mvp_mm.tasks.referring import ReferringComprehensionTask, ReferringSegmentationTask
from mvp_mm.tasks.released import (
    ReleasedGeneralizedReferringTask,
    ReleasedPanopticTask,
    ReleasedReferringTask,
)
from mvp_mm.tasks.semantic import SemanticTask
from mvp_mm.tasks.sentence import SentenceTask
from mvp_mm.tasks.word import WordTask

__all__ = [
    'BaseTask', 'CaptionTask', 'DetectionTask', 'GeneralizedReferringTask', 'InstanceTask',
    'PanopticTask', 'PhraseGroundingTask', 'ReferringComprehensionTask',
    'ReferringSegmentationTask', 'ReleasedGeneralizedReferringTask', 'ReleasedPanopticTask',
    'ReleasedReferringTask', 'SemanticTask', 'SentenceTask', 'WordTask'
]
