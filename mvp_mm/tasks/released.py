# Copyright (c) mvp_mm authors. All rights reserved.
"""Answers as the authors' released code makes them, where they differ from the tasks'."""
from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mvp_mm.registry import TASKS
from mvp_mm.structures import PerceptionDataSample, RawPrediction
from mvp_mm.tasks.decoding import (
    decode_panoptic,
    decode_semantic,
    rescale_boxes,
    rescale_mask_logits,
    word_probabilities,
)
from mvp_mm.tasks.generalized_referring import GeneralizedReferringTask
from mvp_mm.tasks.panoptic import PanopticTask
from mvp_mm.tasks.referring import ReferringSegmentationTask
from mvp_mm.tasks.semantic import SemanticTask


def without_sides(sample: PerceptionDataSample) -> PerceptionDataSample:
    """The frames and the instruction of a sample, where every query may name every phrase."""
    free = PerceptionDataSample(metainfo=sample.metainfo)
    free.instruction = replace(sample.instruction, use_stuff_queries=False)
    return free


def weighed_masks(raw: RawPrediction, sample: PerceptionDataSample, queries: Tensor,
                  scores: Tensor) -> InstanceData:
    """Answers of some queries, best first; scores are weighed by the certainty of the masks.

    Args:
        raw: The network's outputs.
        sample: Supplies the frames.
        queries: (n,) int64.
        scores: (n,).

    Returns:
        ``bboxes`` (n, 4), ``masks`` (n, h, w), ``scores`` (n,): times the mean probability inside
        the mask, 0 where a mask is empty; ``order`` (n,): positions in ``queries``.
    """
    unique, place = queries.unique(return_inverse=True)
    logits = rescale_mask_logits(raw.mask_logits[unique], sample.metainfo)
    masks = logits > 0
    inside = (logits.sigmoid() * masks).flatten(1).sum(1)
    scores = scores * (inside / (masks.flatten(1).sum(1) + 1e-6))[place]
    order = scores.argsort(descending=True, stable=True)
    return InstanceData(
        bboxes=rescale_boxes(raw.boxes[queries[order]], sample.metainfo),
        masks=masks[place[order]], scores=scores[order], order=order)


def decode_things(raw: RawPrediction, sample: PerceptionDataSample, num: int) -> InstanceData:
    """The things among the ``num`` best (query, phrase) pairs of all phrases.

    Args:
        raw: With ``logits`` (Q, K + 1).
        sample: Supplies the instruction and the frames.
        num: Pairs, those of stuff included.

    Returns:
        ``bboxes``, ``masks``, ``scores`` and ``labels``, best first.
    """
    scores = word_probabilities(raw, without_sides(sample))[:, :-1]
    phrases = scores.shape[1]
    top, index = scores.flatten().topk(min(num, scores.numel()))
    is_thing = torch.as_tensor(
        np.asarray(sample.instruction.is_thing, dtype=bool), device=index.device)
    kept = is_thing[index % phrases] & (top > 0)
    index, top = index[kept], top[kept]
    found = weighed_masks(raw, sample, index // phrases, top)
    found.labels = (index % phrases)[found.pop('order')]
    return found


def decode_sentence(raw: RawPrediction, sample: PerceptionDataSample) -> InstanceData:
    """All queries by sigmoid(logit), weighed by the certainty of their masks; labels are 0."""
    scores = raw.logits.float().sigmoid()
    found = weighed_masks(raw, sample, torch.arange(len(scores), device=scores.device), scores)
    found.labels = torch.zeros_like(found.pop('order'))
    return found


@TASKS.register_module()
class ReleasedPanopticTask(PanopticTask):
    """Every query may name a thing or stuff; instances are the things among the best pairs.

    Arguments: see :class:`PanopticTask`.
    """

    def decode(self, raw: RawPrediction, sample: PerceptionDataSample) -> None:
        """See :meth:`BaseTask.decode`."""
        sample.pred_caption = raw.caption
        free = without_sides(sample)
        sample.pred_panoptic_seg = decode_panoptic(
            raw, free, score_thr=self.score_thr, mask_thr=self.mask_thr,
            overlap_thr=self.overlap_thr)
        sample.pred_sem_seg = decode_semantic(raw, free)
        sample.pred_instances = decode_things(raw, sample, self.max_instances)


@TASKS.register_module()
class ReleasedSemanticTask(SemanticTask):
    """Every query may name a thing or stuff. Arguments: see :class:`WordTask`."""

    def decode(self, raw: RawPrediction, sample: PerceptionDataSample) -> None:
        """See :meth:`BaseTask.decode`."""
        sample.pred_caption = raw.caption
        sample.pred_sem_seg = decode_semantic(raw, without_sides(sample))


@TASKS.register_module()
class ReleasedReferringTask(ReferringSegmentationTask):
    """The best query answers alone; a certain mask counts too.

    The box is the box head's; the released code gives none.

    Args:
        **kwargs: See :class:`ReferringSegmentationTask`, except ``same_iou``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(same_iou=2.0, **kwargs)

    def decode(self, raw: RawPrediction, sample: PerceptionDataSample) -> None:
        """See :meth:`BaseTask.decode`."""
        sample.pred_caption = raw.caption
        found = decode_sentence(raw, sample)
        sample.pred_instances = found[:1]
        if self.num_candidates:
            sample.pred_candidates = found[:self.num_candidates]


@TASKS.register_module()
class ReleasedGeneralizedReferringTask(GeneralizedReferringTask):
    """Every query above the threshold; where there is none, the best.

    Args:
        score_thr: Score from which a query is part of the answer.
        **kwargs: See :class:`SentenceTask`.
    """

    def __init__(self, *, score_thr: float = 0.6, **kwargs: Any) -> None:
        super().__init__(score_thr=score_thr, **kwargs)

    def decode(self, raw: RawPrediction, sample: PerceptionDataSample) -> None:
        """See :meth:`BaseTask.decode`."""
        sample.pred_caption = raw.caption
        found = decode_sentence(raw, sample)
        above = int((found.scores > self.score_thr).sum())
        sample.pred_instances = found[:max(above, 1)]
        if self.num_candidates:
            sample.pred_candidates = found[:self.num_candidates]
