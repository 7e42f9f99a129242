# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from mvp_mm.structures.annotation import ImageAnnotation, Referral
from mvp_mm.structures.answering import Answering
from mvp_mm.structures.data_sample import PerceptionDataSample
from mvp_mm.structures.instruction import Instruction, Segment, SegmentKind, VocabularyPart
from mvp_mm.structures.raw_prediction import RawPrediction
from mvp_mm.structures.request import Request

__all__ = [
    'Answering', 'ImageAnnotation', 'Instruction', 'PerceptionDataSample', 'RawPrediction',
    'Referral', 'Request', 'Segment', 'SegmentKind', 'VocabularyPart'
]
