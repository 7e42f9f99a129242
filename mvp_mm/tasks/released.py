# Copyright (c) mvp_mm authors. All rights reserved.
"""Decodes as the authors' released code does, where that differs from the tasks."""
from __future__ import annotations

from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mvp_mm.registry import TASKS
from mvp_mm.structures import PerceptionDataSample, RawPrediction
from mvp_mm.tasks.decoding import (
    decode_panoptic,
    decode_semantic,
    thing_flags,
    word_probabilities,
)
from mvp_mm.tasks.decoding.frames import gather_answers, mask_weights
from mvp_mm.tasks.generalized_referring import GeneralizedReferringTask
from mvp_mm.tasks.panoptic import PanopticTask
from mvp_mm.tasks.referring import ReferringSegmentationTask


def decode_things(raw: RawPrediction, sample: PerceptionDataSample, num: int) -> InstanceData:
    """Collect the things among the ``num`` best (query, phrase) pairs of all phrases.

    Args:
        raw: With ``logits`` (Q, K + 1).
        sample: Supplies the instruction and the frames.
        num: Pairs, those of stuff included.

    Returns:
        ``bboxes`` (n, 4), ``masks`` (n, h, w), ``labels`` (n,) and ``scores`` (n,), weighed by
        the mean probability inside the mask; best first.
    """
    scores = word_probabilities(raw, sample)[:, :-1]
    phrases = scores.shape[1]
    top, index = scores.flatten().topk(min(num, scores.numel()))
    kept = thing_flags(raw, sample)[index % phrases] & (top > raw.answering.least_score)
    index, top = index[kept], top[kept]
    return gather_answers(raw, sample, index // phrases, top, index % phrases, with_masks=True,
                          weigh_by_mask=True, score_thr=raw.answering.least_score or None)


def rank_queries(raw: RawPrediction, sample: PerceptionDataSample) -> tuple[Tensor, Tensor]:
    """Rank all queries by sigmoid(logit), weighed by the certainty of their masks.

    Returns:
        (Q,) queries and (Q,) scores, best first.
    """
    scores = raw.logits.float().sigmoid()
    queries = torch.arange(len(scores), device=scores.device)
    scores = scores * mask_weights(raw, sample, queries)
    order = scores.argsort(descending=True, stable=True)
    return order, scores[order]


def decode_best(raw: RawPrediction, sample: PerceptionDataSample, order: Tensor, scores: Tensor,
                num: int) -> InstanceData:
    """Collect the ``num`` best of ranked queries; labels are 0."""
    return gather_answers(raw, sample, order[:num], scores[:num],
                          torch.zeros_like(order[:num]), with_masks=True)


@TASKS.register_module()
class ReleasedPanopticTask(PanopticTask):
    """Takes as instances the things among the best pairs of all phrases.

    Arguments: see :class:`PanopticTask`.
    """

    def decode(self, raw: RawPrediction, sample: PerceptionDataSample) -> None:
        """See :meth:`BaseTask.decode`."""
        sample.pred_caption = raw.caption
        sample.pred_panoptic_seg = decode_panoptic(
            raw, sample, score_thr=self.score_thr, mask_thr=self.mask_thr,
            overlap_thr=self.overlap_thr)
        if self.segments_only:
            return
        sample.pred_sem_seg = decode_semantic(raw, sample)
        sample.pred_instances = decode_things(raw, sample, self.max_instances)


@TASKS.register_module()
class ReleasedReferringTask(ReferringSegmentationTask):
    """Answers with the best query alone; a certain mask counts too.

    The box is the box head's; the released code gives none. Arguments: see
    :class:`ReferringSegmentationTask`.
    """

    def decode(self, raw: RawPrediction, sample: PerceptionDataSample) -> None:
        """See :meth:`BaseTask.decode`."""
        sample.pred_caption = raw.caption
        ranked = rank_queries(raw, sample)
        sample.pred_instances = decode_best(raw, sample, *ranked, num=1)
        if self.num_candidates:
            sample.pred_candidates = decode_best(raw, sample, *ranked, num=self.num_candidates)


@TASKS.register_module()
class ReleasedGeneralizedReferringTask(GeneralizedReferringTask):
    """Answers with every query above the threshold; where there is none, with the best.

    Args:
        score_thr: Score from which a query is part of the answer.
        **kwargs: See :class:`SentenceTask`.
    """

    def __init__(self, *, score_thr: float = 0.6, **kwargs: Any) -> None:
        super().__init__(score_thr=score_thr, **kwargs)
        if self.presence_thr is not None:
            raise ValueError(f'{type(self).__name__} always answers: it takes no presence_thr')

    def decode(self, raw: RawPrediction, sample: PerceptionDataSample) -> None:
        """See :meth:`BaseTask.decode`."""
        sample.pred_caption = raw.caption
        ranked = rank_queries(raw, sample)
        above = int((ranked[1] > self.score_thr).sum())
        sample.pred_instances = decode_best(raw, sample, *ranked, num=max(above, 1))
        if self.num_candidates:
            sample.pred_candidates = decode_best(raw, sample, *ranked, num=self.num_candidates)
