# Copyright (c) mvp_mm authors. All rights reserved.
"""Instance segmentation."""
from __future__ import annotations

from typing import Any, ClassVar

from mvp_mm.registry import TASKS
from mvp_mm.structures import PerceptionDataSample, RawPrediction
from mvp_mm.tasks.decoding import decode_instances
from mvp_mm.tasks.word import WordTask


@TASKS.register_module()
class InstanceTask(WordTask):
    """Finds boxes and masks of the vocabulary's things.

    Of a user's words that are stuff, each is answered by one region.

    Args:
        score_thr: Lowest score of a prediction.
        max_instances: Most predictions per image.
        **kwargs: See :class:`WordTask`.
    """

    name: ClassVar[str] = 'instance'
    default_metric: ClassVar[str] = 'CocoAPMetric'
    things_only: ClassVar[bool] = True
    asks_about_stuff: ClassVar[bool] = True

    def __init__(self, *, score_thr: float = 0.0, max_instances: int = 100,
                 **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.score_thr = score_thr
        self.max_instances = max_instances

    def decode(self, raw: RawPrediction, sample: PerceptionDataSample) -> None:
        """See :meth:`BaseTask.decode`."""
        sample.pred_caption = raw.caption
        sample.pred_instances = decode_instances(
            raw, sample, max_per_image=self.max_instances, score_thr=self.score_thr,
            things_only=False, with_masks=self.predicts_masks, stuff_once=True)
