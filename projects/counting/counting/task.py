# Copyright (c) mvp_mm authors. All rights reserved.
"""Counting: how many instances of each phrase are there?"""
from __future__ import annotations

from typing import Any, ClassVar

from mvp_mm.registry import TASKS
from mvp_mm.structures import PerceptionDataSample, RawPrediction
from mvp_mm.tasks import WordTask
from mvp_mm.tasks.decoding import decode_instances


@TASKS.register_module()
class CountingTask(WordTask):
    """Counts the instances of every thing phrase of a word list.

    Writes ``pred_counts``, a dict from phrase to number, and ``pred_instances``, the boxes that
    were counted.

    Args:
        score_thr: An instance counts when its score is higher. From 0.5 on no query can count
            for two phrases, hence the limit.
        **kwargs: See :class:`~mvp_mm.tasks.WordTask`.

    Raises:
        ValueError: If the threshold is not at least 0.5 and below 1.
    """

    name: ClassVar[str] = 'counting'
    predicts_masks: ClassVar[bool] = False
    default_metric: ClassVar[str] = 'CountingMetric'
    things_only: ClassVar[bool] = True

    def __init__(self, *, score_thr: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0.5 <= score_thr < 1:
            raise ValueError(f'score_thr must be at least 0.5 and below 1, got {score_thr}')
        self.score_thr = score_thr

    def decode(self, raw: RawPrediction, sample: PerceptionDataSample) -> None:
        """See :meth:`~mvp_mm.tasks.BaseTask.decode`."""
        found = decode_instances(
            raw, sample, max_per_image=len(raw.logits), score_thr=self.score_thr,
            things_only=True, with_masks=False)
        instruction = sample.instruction
        numbers = found.labels.bincount(minlength=len(instruction.phrases)).tolist()
        sample.pred_caption = raw.caption
        sample.pred_instances = found
        sample.pred_counts = {
            phrase: number for phrase, number, is_thing in zip(
                instruction.phrases, numbers, instruction.is_thing, strict=True) if is_thing}
