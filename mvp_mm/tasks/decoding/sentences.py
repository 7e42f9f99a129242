# Copyright (c) mvp_mm authors. All rights reserved.
"""Answers to sentences: one object, candidates, or any number of objects."""
from __future__ import annotations

import torch
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn.functional import softplus
from torchvision.ops import box_convert, box_iou

from mvp_mm.structures import PerceptionDataSample, RawPrediction
from mvp_mm.tasks.decoding.frames import gather_answers, suppress


def sentence_presence(raw: RawPrediction) -> Tensor:
    """Compute the probability that a sentence means anything, from all queries together.

    It is 1 - ∏ (1 - p) over the probabilities p of the queries to be meant, as if they were
    independent. Where a model hesitates between two objects each has a low score, and yet one of
    them is surely meant. A sentence's BCE, summed over its queries, is -log(1 - presence) where
    nothing is meant.

    Args:
        raw: With ``logits`` (Q,).

    Returns:
        Scalar from 0 to 1, not below the best query's score.
    """
    return -torch.expm1(-softplus(_sentence_logits(raw)).sum())


def decode_referring(raw: RawPrediction, sample: PerceptionDataSample, *,
                     with_masks: bool) -> InstanceData:
    """Find the one object that a sentence means most, by its best query.

    With ``answering.same_iou`` objects are compared, not queries: several queries may lie on one
    object, and training may ask that they share the probability of being meant. An object's
    score is then the sum over a query and those whose boxes overlap its own by that IoU.

    Args:
        raw: With ``logits`` (Q,).
        sample: Supplies the frames.
        with_masks: Add the mask.

    Returns:
        As :func:`decode_instances`, n = 1, label 0, score sigmoid(logit).
    """
    logits = _sentence_logits(raw)
    candidates = logits
    if raw.answering.same_iou is not None:
        boxes = box_convert(raw.boxes.float(), 'cxcywh', 'xyxy')
        together = box_iou(boxes, boxes) >= raw.answering.same_iou
        # A box without area overlaps nothing, itself included.
        together.fill_diagonal_(True)
        centre = (together * logits.softmax(0)).sum(1).argmax()
        candidates = logits.masked_fill(~together[centre], torch.finfo(logits.dtype).min)
    query = candidates.argmax()[None]
    return gather_answers(raw, sample, query, logits[query].sigmoid(), torch.zeros_like(query),
                          with_masks)


def decode_candidates(raw: RawPrediction, sample: PerceptionDataSample, *, num: int,
                      with_masks: bool) -> InstanceData:
    """Keep the ``num`` queries that fit a sentence best, best first.

    Args:
        raw: With ``logits`` (Q,).
        sample: Supplies the frames.
        num: Number of queries, at most Q are returned.
        with_masks: Add masks.

    Returns:
        As :func:`decode_instances`, labels 0, scores sigmoid(logit).
    """
    logits = _sentence_logits(raw)
    top, queries = logits.topk(min(num, len(logits)))
    return gather_answers(raw, sample, queries, top.sigmoid(), torch.zeros_like(queries),
                          with_masks)


def decode_generalized(raw: RawPrediction, sample: PerceptionDataSample, *, score_thr: float,
                       with_masks: bool, presence_thr: float | None = None) -> InstanceData:
    """Collect the queries that a sentence means: none, one or many.

    Args:
        raw: With ``logits`` (Q,); ``answering.nms_iou`` removes repeated answers.
        sample: Supplies the frames.
        score_thr: Queries with a higher sigmoid(logit) are meant; it must also be above
            ``answering.least_score``.
        with_masks: Add masks.
        presence_thr: Unless :func:`sentence_presence` is higher, nothing is meant. Where it is,
            the best query answers even though its score is not above ``score_thr``.

    Returns:
        As :func:`decode_instances`, labels 0, scores sigmoid(logit); may be empty.
    """
    scores = _sentence_logits(raw).sigmoid()
    meant = scores > max(score_thr, raw.answering.least_score)
    if presence_thr is not None:
        best = scores.argmax()
        meant[best] = scores[best] > raw.answering.least_score
        meant &= sentence_presence(raw) > presence_thr
    queries = meant.nonzero()[:, 0]
    kept = suppress(raw.boxes[queries], scores[queries], torch.zeros_like(queries),
                    raw.answering.nms_iou)
    queries = queries[kept]
    return gather_answers(raw, sample, queries, scores[queries], torch.zeros_like(queries),
                          with_masks)


def _sentence_logits(raw: RawPrediction) -> Tensor:
    if raw.logits.ndim != 1:
        raise ValueError('A sentence instruction needs logits of shape (Q,), got '
                         f'{tuple(raw.logits.shape)}')
    return raw.logits.float()
