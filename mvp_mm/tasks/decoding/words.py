# Copyright (c) mvp_mm authors. All rights reserved.
"""Answers to word lists: instances, phrases and semantic maps."""
from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor

from mvp_mm.structures import PerceptionDataSample, RawPrediction
from mvp_mm.tasks.decoding.bands import MaskBands
from mvp_mm.tasks.decoding.frames import gather_answers, suppress

# Class scores of pixels that are held at once, 16 MB.
_SEMANTIC_CHUNK = 2**22
# Pairs that compete before repeated answers are removed, per pair that is kept.
_NMS_POOL = 16


def thing_flags(raw: RawPrediction, sample: PerceptionDataSample) -> Tensor:
    """Decide which phrases are things in this image.

    A phrase of which nobody said is what the queries find that know it best: a thing if the best
    of the dynamic queries scores higher for it than the best of the stuff queries, else stuff.

    Args:
        raw: With ``logits`` (Q, K + 1).
        sample: With its ``instruction``.

    Returns:
        (K,) bool.
    """
    instruction, device = sample.instruction, raw.logits.device
    is_thing = torch.as_tensor(np.asarray(instruction.is_thing, dtype=bool), device=device)
    if instruction.undecided is None or not 0 < raw.num_dynamic < len(raw.logits):
        return is_thing
    scores = raw.logits.float().softmax(-1)[:, :-1]
    as_thing, as_stuff = (
        part.amax(0) for part in scores.tensor_split((raw.num_dynamic,)))
    undecided = torch.as_tensor(instruction.undecided, device=device)
    return torch.where(undecided, as_thing >= as_stuff, is_thing)


def word_probabilities(raw: RawPrediction, sample: PerceptionDataSample) -> Tensor:
    """Take the softmax over the phrases and "no object".

    Args:
        raw: With ``logits`` (Q, K + 1).
        sample: With its ``instruction``.

    Returns:
        (Q, K + 1) float32 probabilities.

    Raises:
        ValueError: If the logits do not fit the instruction's phrases.
    """
    columns = len(sample.instruction.phrases) + 1
    if raw.logits.ndim != 2 or raw.logits.shape[1] != columns:
        raise ValueError(f'A word instruction with {columns - 1} phrases needs logits of shape '
                         f'(Q, {columns}), got {tuple(raw.logits.shape)}')
    return raw.logits.float().softmax(dim=-1)


def decode_semantic(raw: RawPrediction, sample: PerceptionDataSample) -> Tensor:
    """Assign each pixel its best phrase by the sum over all queries.

    Args:
        raw: With ``logits`` (Q, K + 1).
        sample: Supplies the instruction and the frames.

    Returns:
        (h, w) int64 phrase indices.
    """
    weights = word_probabilities(raw, sample)[:, :-1].T.contiguous()
    every = torch.arange(len(raw.mask_logits), device=weights.device)
    parts = []
    for logits, rows in MaskBands(raw.mask_logits, every, sample.metainfo):
        logits = logits if len(rows) == len(logits) else logits[rows]
        # The (K, b, w) class scores are needed only for the argmax: a few rows bound them.
        step = max(1, _SEMANTIC_CHUNK // (weights.shape[0] * logits.shape[2]))
        parts += [torch.einsum('kq,qhw->khw', weights, part.sigmoid()).argmax(0)
                  for part in logits.split(step, dim=1)]
    return torch.cat(parts)


def decode_instances(raw: RawPrediction, sample: PerceptionDataSample, *, max_per_image: int,
                     score_thr: float, things_only: bool, with_masks: bool,
                     stuff_once: bool = False) -> InstanceData:
    """Collect detections and instance masks: the best (query, phrase) pairs.

    Args:
        raw: With ``logits`` (Q, K + 1); ``answering.nms_iou`` removes repeated answers.
        sample: Supplies the instruction and the frames.
        max_per_image: Number of pairs to keep.
        score_thr: Pairs must score higher; so must they than ``answering.least_score``.
        things_only: Leave stuff phrases out.
        with_masks: Add masks, and weight scores by the mean probability inside the mask.
        stuff_once: Answer each stuff phrase by its best query alone: stuff is not countable.

    Returns:
        ``bboxes`` (n, 4) xyxy, ``scores`` (n,) descending, ``labels`` (n,) and ``masks``
        (n, h, w) bool.
    """
    scores = word_probabilities(raw, sample)[:, :-1]
    is_thing = thing_flags(raw, sample)
    if things_only:
        scores = scores.masked_fill(~is_thing, -1.)
    elif stuff_once:
        best = F.one_hot(scores.argmax(0), len(scores)).T.bool()
        scores = scores.masked_fill(~is_thing & ~best, -1.)
    score_thr = max(score_thr, raw.answering.least_score)
    nms_iou = raw.answering.nms_iou
    pool = max_per_image if nms_iou is None else _NMS_POOL * max_per_image
    top, index = scores.flatten().topk(min(pool, scores.numel()))
    index, top = index[top > score_thr], top[top > score_thr]
    queries, labels = index // scores.shape[1], index % scores.shape[1]
    if nms_iou is not None:
        kept = suppress(raw.boxes[queries], top, labels, nms_iou)[:max_per_image]
        queries, top, labels = queries[kept], top[kept], labels[kept]
    return gather_answers(raw, sample, queries, top, labels, with_masks, weigh_by_mask=True,
                          score_thr=score_thr)


def decode_phrases(raw: RawPrediction, sample: PerceptionDataSample, *, max_per_phrase: int,
                   score_thr: float, with_masks: bool) -> InstanceData:
    """Answer each phrase of a list by itself: its best queries, however others score.

    Args:
        raw: With ``logits`` (Q, K + 1); ``answering.nms_iou`` removes repeated answers.
        sample: Supplies the instruction and the frames.
        max_per_phrase: Number of queries to keep per phrase.
        score_thr: Pairs must score higher; so must they than ``answering.least_score``.
        with_masks: Add masks.

    Returns:
        As :func:`decode_instances`, n at most K times ``max_per_phrase``.
    """
    scores = word_probabilities(raw, sample)[:, :-1]
    score_thr = max(score_thr, raw.answering.least_score)
    # All of a phrase's queries compete where repeated answers are removed.
    most = len(scores) if raw.answering.nms_iou is not None else max_per_phrase
    top, queries = scores.topk(min(most, len(scores)), dim=0)
    labels = torch.arange(scores.shape[1], device=scores.device).expand_as(queries)
    kept = top > score_thr
    top, queries, labels = top[kept], queries[kept], labels[kept]
    order = suppress(raw.boxes[queries], top, labels, raw.answering.nms_iou)
    order = order[_rank_within(labels[order]) < max_per_phrase]
    return gather_answers(raw, sample, queries[order], top[order], labels[order], with_masks)


def _rank_within(labels: Tensor) -> Tensor:
    """(n,) how many of the answers before each have its label."""
    by_label = labels.argsort(stable=True)
    counts = labels.bincount()
    start = (counts.cumsum(0) - counts)[labels[by_label]]
    ranks = torch.empty_like(labels)
    ranks[by_label] = torch.arange(len(labels), device=labels.device) - start
    return ranks
