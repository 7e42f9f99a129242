# Copyright (c) mvp_mm authors. All rights reserved.
"""Panoptic segmentation."""
from __future__ import annotations

from typing import Any, ClassVar

from mvp_mm.registry import TASKS
from mvp_mm.structures import PerceptionDataSample, RawPrediction
from mvp_mm.tasks.decoding import decode_instances, decode_panoptic, decode_semantic
from mvp_mm.tasks.word import WordTask


@TASKS.register_module()
class PanopticTask(WordTask):
    """Assigns every pixel to one segment; instances and a semantic map come from the same forward.

    Args:
        score_thr: Lowest score of a panoptic segment.
        mask_thr: Probability from which a pixel belongs to a mask.
        overlap_thr: Share of its mask that a segment must keep after the pixels are divided.
        instance_thr: Lowest score of an instance in ``pred_instances``.
        max_instances: Most of these.
        segments_only: Give no instances and no semantic map: at 12 megapixels they take most of
            the time.
        **kwargs: See :class:`WordTask`.
    """

    name: ClassVar[str] = 'panoptic'
    default_metric: ClassVar[str] = 'PanopticQualityMetric'
    use_stuff_queries: ClassVar[bool] = True
    asks_about_stuff: ClassVar[bool] = True

    def __init__(self,
                 *,
                 score_thr: float = 0.1,
                 mask_thr: float = 0.5,
                 overlap_thr: float = 0.8,
                 instance_thr: float = 0.0,
                 max_instances: int = 100,
                 segments_only: bool = False,
                 **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.segments_only = segments_only
        self.score_thr = score_thr
        self.mask_thr = mask_thr
        self.overlap_thr = overlap_thr
        self.instance_thr = instance_thr
        self.max_instances = max_instances

    def decode(self, raw: RawPrediction, sample: PerceptionDataSample) -> None:
        """See :meth:`BaseTask.decode`."""
        sample.pred_caption = raw.caption
        sample.pred_panoptic_seg = decode_panoptic(
            raw, sample, score_thr=self.score_thr, mask_thr=self.mask_thr,
            overlap_thr=self.overlap_thr)
        if self.segments_only:
            return
        sample.pred_sem_seg = decode_semantic(raw, sample)
        sample.pred_instances = decode_instances(
            raw, sample, max_per_image=self.max_instances, score_thr=self.instance_thr,
            things_only=True, with_masks=True)
