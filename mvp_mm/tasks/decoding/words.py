# Copyright (c) mvp_mm authors. All rights reserved.
"""Answers to word lists: instances, phrases and semantic maps."""
from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor

from mvp_mm.structures import PerceptionDataSample, RawPrediction
from mvp_mm.tasks.decoding.frames import gather_answers, rescale_mask_logits

_SEMANTIC_CHUNK = 2**24


def word_probabilities(raw: RawPrediction, sample: PerceptionDataSample) -> Tensor:
    """Softmax over the phrases and "no object".

    Where stuff queries take part, dynamic queries name things only and stuff queries stuff only.

    Args:
        raw: With ``logits`` (Q, K + 1).
        sample: With its ``instruction``.

    Returns:
        (Q, K + 1) float32 probabilities.

    Raises:
        ValueError: If the logits do not fit the instruction's phrases.
    """
    instruction = sample.instruction
    columns = len(instruction.phrases) + 1
    if raw.logits.ndim != 2 or raw.logits.shape[1] != columns:
        raise ValueError(f'A word instruction with {columns - 1} phrases needs logits of shape '
                         f'(Q, {columns}), got {tuple(raw.logits.shape)}')
    logits = raw.logits.float()
    if instruction.use_stuff_queries:
        is_thing = torch.as_tensor(np.asarray(instruction.is_thing, dtype=bool),
                                   device=logits.device)
        dynamic = torch.arange(len(logits), device=logits.device) < raw.num_dynamic
        forbidden = dynamic[:, None] != is_thing[None, :]
        logits = logits.masked_fill(F.pad(forbidden, (0, 1)), float('-inf'))
    return logits.softmax(dim=-1)


def decode_semantic(raw: RawPrediction, sample: PerceptionDataSample) -> Tensor:
    """Semantic segmentation: each pixel's best phrase by the sum over all queries.

    Args:
        raw: With ``logits`` (Q, K + 1).
        sample: Supplies the instruction and the frames.

    Returns:
        (h, w) int64 phrase indices.
    """
    weights = word_probabilities(raw, sample)[:, :-1].T.contiguous()
    masks = rescale_mask_logits(raw.mask_logits, sample.metainfo)
    # The (K, h, w) class scores are needed only for the argmax: a few rows at a time bound them.
    rows = max(1, _SEMANTIC_CHUNK // (weights.shape[0] * masks.shape[2]))
    parts = [torch.einsum('kq,qhw->khw', weights, part.sigmoid()).argmax(0)
             for part in masks.split(rows, dim=1)]
    return torch.cat(parts)


def decode_instances(raw: RawPrediction, sample: PerceptionDataSample, *, max_per_image: int,
                     score_thr: float, things_only: bool, with_masks: bool) -> InstanceData:
    """Detections and instance masks: the best (query, phrase) pairs.

    Args:
        raw: With ``logits`` (Q, K + 1).
        sample: Supplies the instruction and the frames.
        max_per_image: Number of pairs to keep.
        score_thr: Pairs must score higher.
        things_only: Leave stuff phrases out.
        with_masks: Add masks, and weight scores by the mean probability inside the mask.

    Returns:
        ``bboxes`` (n, 4) xyxy, ``scores`` (n,) descending, ``labels`` (n,) and ``masks``
        (n, h, w) bool.
    """
    scores = word_probabilities(raw, sample)[:, :-1]
    phrases = torch.arange(scores.shape[1], device=scores.device)
    if things_only:
        is_thing = np.asarray(sample.instruction.is_thing, dtype=bool)
        phrases = phrases[torch.as_tensor(is_thing, device=scores.device)]
        scores = scores[:, phrases]
    top, index = scores.flatten().topk(min(max_per_image, scores.numel()))
    index = index[top > score_thr]
    top = top[top > score_thr]
    # Without things there is no column to divide by, and no pair either.
    columns = max(len(phrases), 1)
    found = gather_answers(raw, sample, index // columns, top, phrases[index % columns], with_masks,
                    weigh_by_mask=True)
    if with_masks:
        order = found.scores.argsort(descending=True, stable=True)
        found = found[order[found.scores[order] > score_thr]]
    return found


def decode_phrases(raw: RawPrediction, sample: PerceptionDataSample, *, max_per_phrase: int,
                   score_thr: float, with_masks: bool) -> InstanceData:
    """Answers to each phrase of a list by itself: its best queries, however others score.

    Args:
        raw: With ``logits`` (Q, K + 1).
        sample: Supplies the instruction and the frames.
        max_per_phrase: Number of queries to keep for a phrase.
        score_thr: Pairs must score higher.
        with_masks: Add masks.

    Returns:
        As :func:`decode_instances`, n at most K times ``max_per_phrase``.
    """
    scores = word_probabilities(raw, sample)[:, :-1]
    top, queries = scores.topk(min(max_per_phrase, len(scores)), dim=0)
    labels = torch.arange(scores.shape[1], device=scores.device).expand_as(queries)
    kept = top > score_thr
    top, queries, labels = top[kept], queries[kept], labels[kept]
    order = top.argsort(descending=True, stable=True)
    return gather_answers(raw, sample, queries[order], top[order], labels[order], with_masks)
