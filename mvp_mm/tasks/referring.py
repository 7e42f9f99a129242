# Copyright (c) mvp_mm authors. All rights reserved.
"""Referring segmentation (RES) and referring comprehension (REC): one target a sentence."""
from __future__ import annotations

from typing import Any, ClassVar

from mvp_mm.registry import TASKS
from mvp_mm.structures import PerceptionDataSample, RawPrediction
from mvp_mm.tasks.decoding import decode_candidates, decode_referring
from mvp_mm.tasks.sentence import SentenceTask


@TASKS.register_module()
class ReferringSegmentationTask(SentenceTask):
    """Mask and box of the one object that a sentence means.

    Args:
        same_iou: Queries whose boxes overlap so much are taken for one object and answer
            together; above 1 the best query answers alone.
        **kwargs: See :class:`SentenceTask`.
    """

    name: ClassVar[str] = 'referring_segmentation'
    default_metric: ClassVar[str] = 'ReferringMetric'
    one_target: ClassVar[bool] = True

    def __init__(self, *, same_iou: float = 0.7, **kwargs: Any) -> None:
        if same_iou <= 0:
            raise ValueError(f'same_iou must be positive, got {same_iou}')
        super().__init__(**kwargs)
        self.same_iou = same_iou

    def decode(self, raw: RawPrediction, sample: PerceptionDataSample) -> None:
        """See :meth:`BaseTask.decode`."""
        sample.pred_caption = raw.caption
        sample.pred_instances = decode_referring(
            raw, sample, same_iou=self.same_iou, with_masks=self.predicts_masks)
        if self.num_candidates:
            sample.pred_candidates = decode_candidates(
                raw, sample, num=self.num_candidates, with_masks=self.predicts_masks)


@TASKS.register_module()
class ReferringComprehensionTask(ReferringSegmentationTask):
    """Box of the one object that a sentence means. Arguments: see :class:`SentenceTask`."""

    name: ClassVar[str] = 'referring_comprehension'
    predicts_masks: ClassVar[bool] = False
