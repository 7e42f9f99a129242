# Copyright (c) mvp_mm authors. All rights reserved.
"""Semantic segmentation."""
from __future__ import annotations

from typing import ClassVar

from mvp_mm.registry import TASKS
from mvp_mm.structures import PerceptionDataSample, RawPrediction
from mvp_mm.tasks.decoding import decode_semantic
from mvp_mm.tasks.word import WordTask


@TASKS.register_module()
class SemanticTask(WordTask):
    """Assigns every pixel to one class. Arguments: see :class:`WordTask`."""

    name: ClassVar[str] = 'semantic'
    default_metric: ClassVar[str] = 'SemanticIoUMetric'
    use_stuff_queries: ClassVar[bool] = True
    asks_about_stuff: ClassVar[bool] = True

    def decode(self, raw: RawPrediction, sample: PerceptionDataSample) -> None:
        """See :meth:`BaseTask.decode`."""
        sample.pred_caption = raw.caption
        sample.pred_sem_seg = decode_semantic(raw, sample)
