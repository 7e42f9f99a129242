# Copyright (c) mvp_mm authors. All rights reserved.
"""Generalised referring segmentation (GRES): any number of targets per sentence."""
from __future__ import annotations

from typing import Any, ClassVar

from mvp_mm.registry import TASKS
from mvp_mm.structures import PerceptionDataSample, RawPrediction
from mvp_mm.tasks.decoding import decode_candidates, decode_generalized, sentence_presence
from mvp_mm.tasks.sentence import SentenceTask


@TASKS.register_module()
class GeneralizedReferringTask(SentenceTask):
    """Finds all objects that a sentence means, possibly none.

    Args:
        score_thr: Score from which a query is part of the answer.
        presence_thr: Presence from which the sentence means anything at all, at least its best
            query (see :func:`~mvp_mm.tasks.decoding.sentence_presence`); None leaves that to
            ``score_thr``. For a trained model ``tools/analysis_tools/calibrate_presence.py``
            finds it.
        **kwargs: See :class:`SentenceTask`.
    """

    name: ClassVar[str] = 'generalized_referring'
    default_metric: ClassVar[str] = 'GeneralizedReferringMetric'

    def __init__(self, *, score_thr: float = 0.5, presence_thr: float | None = None,
                 **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.score_thr = score_thr
        self.presence_thr = presence_thr

    def decode(self, raw: RawPrediction, sample: PerceptionDataSample) -> None:
        """See :meth:`BaseTask.decode`."""
        sample.pred_caption = raw.caption
        sample.pred_sentence_presence = sentence_presence(raw)
        sample.pred_instances = decode_generalized(
            raw, sample, score_thr=self.score_thr, with_masks=self.predicts_masks,
            presence_thr=self.presence_thr)
        if self.num_candidates:
            sample.pred_candidates = decode_candidates(
                raw, sample, num=self.num_candidates, with_masks=self.predicts_masks)
