# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from mvp_mm.evaluation.base import PerceptionMetric
from mvp_mm.evaluation.caption_truth import CaptionTruthMetric
from mvp_mm.evaluation.coco_ap import CocoAPMetric
from mvp_mm.evaluation.generalized_referring import GeneralizedReferringMetric
from mvp_mm.evaluation.grounding_recall import GroundingRecallMetric
from mvp_mm.evaluation.lvis_ap import LvisAPMetric
from mvp_mm.evaluation.panoptic_quality import PanopticQualityMetric
from mvp_mm.evaluation.prediction_reader import PredictionReader
from mvp_mm.evaluation.prediction_writer import PredictionWriter
from mvp_mm.evaluation.referring import ReferringMetric
from mvp_mm.evaluation.response import ResponseMetric
from mvp_mm.evaluation.semantic_iou import SemanticIoUMetric

__all__ = [
    'CaptionTruthMetric', 'CocoAPMetric', 'GeneralizedReferringMetric', 'GroundingRecallMetric',
    'LvisAPMetric', 'PanopticQualityMetric', 'PerceptionMetric', 'PredictionReader',
    'PredictionWriter', 'ReferringMetric', 'ResponseMetric', 'SemanticIoUMetric'
]
