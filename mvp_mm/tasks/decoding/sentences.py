# Copyright (c) mvp_mm authors. All rights reserved.
"""Answers to sentences: one object, candidates, or any number of objects."""
from __future__ import annotations

import torch
from mmengine.structures import InstanceData
from torch import Tensor
from torchvision.ops import box_convert, box_iou

from mvp_mm.structures import PerceptionDataSample, RawPrediction
from mvp_mm.tasks.decoding.frames import gather_answers


def decode_referring(raw: RawPrediction, sample: PerceptionDataSample, *, same_iou: float,
                     with_masks: bool) -> InstanceData:
    """The one object that a sentence means most, by its best query.

    Several queries may lie on one object, and training asks that they share the probability of
    being meant. So objects are compared by the sum over their queries: that of every query
    together with those whose boxes overlap its own.

    Args:
        raw: With ``logits`` (Q,).
        sample: Supplies the frames.
        same_iou: Queries whose boxes overlap so much lie on one object; above 1 every query
            stands for itself.
        with_masks: Add the mask.

    Returns:
        As :func:`decode_instances`, n = 1, label 0, score sigmoid(logit).
    """
    logits = _sentence_logits(raw)
    boxes = box_convert(raw.boxes.float(), 'cxcywh', 'xyxy')
    together = box_iou(boxes, boxes) >= same_iou
    # A box without area overlaps nothing, itself included.
    together.fill_diagonal_(True)
    centre = (together * logits.softmax(0)).sum(1).argmax()
    lowest = torch.finfo(logits.dtype).min
    query = logits.masked_fill(~together[centre], lowest).argmax()[None]
    return gather_answers(raw, sample, query, logits[query].sigmoid(), torch.zeros_like(query),
                   with_masks)


def decode_candidates(raw: RawPrediction, sample: PerceptionDataSample, *, num: int,
                      with_masks: bool) -> InstanceData:
    """The ``num`` queries that fit a sentence best, best first.

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
                       with_masks: bool) -> InstanceData:
    """Every query that a sentence means: none, one or many.

    Args:
        raw: With ``logits`` (Q,).
        sample: Supplies the frames.
        score_thr: Queries with a higher sigmoid(logit) are meant.
        with_masks: Add masks.

    Returns:
        As :func:`decode_instances`, labels 0, scores sigmoid(logit); may be empty.
    """
    scores, queries = _sentence_logits(raw).sigmoid().sort(descending=True)
    kept = scores > score_thr
    queries = queries[kept]
    return gather_answers(raw, sample, queries, scores[kept], torch.zeros_like(queries), with_masks)


def _sentence_logits(raw: RawPrediction) -> Tensor:
    if raw.logits.ndim != 1:
        raise ValueError('A sentence instruction needs logits of shape (Q,), got '
                         f'{tuple(raw.logits.shape)}')
    return raw.logits.float()
