# Copyright (c) mvp_mm authors. All rights reserved.
"""Referring segmentation (RES) and referring comprehension (REC): one target per sentence."""
from __future__ import annotations

from typing import ClassVar

from mvp_mm.registry import TASKS
from mvp_mm.structures import PerceptionDataSample, RawPrediction
from mvp_mm.tasks.decoding import decode_candidates, decode_referring, sentence_presence
from mvp_mm.tasks.sentence import SentenceTask


@TASKS.register_module()
class ReferringSegmentationTask(SentenceTask):
    """Finds mask and box of the one object that a sentence means.

    Arguments: see :class:`SentenceTask`. Whether overlapping queries answer together is the
    model's ``answering.same_iou``.
    """

    name: ClassVar[str] = 'referring_segmentation'
    default_metric: ClassVar[str] = 'ReferringMetric'
    one_target: ClassVar[bool] = True

    def decode(self, raw: RawPrediction, sample: PerceptionDataSample) -> None:
        """See :meth:`BaseTask.decode`."""
        sample.pred_caption = raw.caption
        sample.pred_sentence_presence = sentence_presence(raw)
        sample.pred_instances = decode_referring(raw, sample, with_masks=self.predicts_masks)
        if self.num_candidates:
            sample.pred_candidates = decode_candidates(
                raw, sample, num=self.num_candidates, with_masks=self.predicts_masks)


@TASKS.register_module()
class ReferringComprehensionTask(ReferringSegmentationTask):
    """Finds the box of the one object that a sentence means.

    Arguments: see :class:`SentenceTask`.
    """

    name: ClassVar[str] = 'referring_comprehension'
    predicts_masks: ClassVar[bool] = False
