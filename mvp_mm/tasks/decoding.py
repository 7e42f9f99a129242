# Copyright (c) mvp_mm authors. All rights reserved.
"""From the network's raw outputs to answers in the original image's frame.

Pure functions shared by the tasks. Letters: Q queries, K phrases, n answers, (h, w) the original
image, (H, W) the padded canvas. The canvas holds the resized image at its top left corner.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor
from torchvision.ops import box_convert, box_iou

from mvp_mm.structures import PerceptionDataSample, RawPrediction

_SEMANTIC_CHUNK = 2**24


def rescale_boxes(boxes: Tensor, meta: Mapping[str, Any]) -> Tensor:
    """Move boxes from the canvas to the original image.

    Args:
        boxes: (n, 4) cxcywh, normalised by the canvas.
        meta: ``batch_input_shape`` (H, W), ``img_shape`` and ``ori_shape`` (h, w).

    Returns:
        (n, 4) float32 xyxy in pixels of the original image, clipped to it.
    """
    canvas_h, canvas_w = meta['batch_input_shape'][:2]
    img_h, img_w = meta['img_shape'][:2]
    ori_h, ori_w = meta['ori_shape'][:2]
    scale = boxes.new_tensor((canvas_w * ori_w / img_w, canvas_h * ori_h / img_h),
                             dtype=torch.float32).repeat(2)
    corners = box_convert(boxes.float(), 'cxcywh', 'xyxy') * scale
    limit = corners.new_tensor((ori_w, ori_h, ori_w, ori_h))
    return torch.minimum(corners.clamp(min=0), limit)


def rescale_mask_logits(mask_logits: Tensor, meta: Mapping[str, Any]) -> Tensor:
    """Move mask logits from the canvas to the original image.

    Costs n full-size maps: call it for the masks that are kept.

    Args:
        mask_logits: (n, H', W') over the canvas, at any stride.
        meta: As in :func:`rescale_boxes`.

    Returns:
        (n, h, w) float32 logits.
    """
    img_h, img_w = meta['img_shape'][:2]
    size = tuple(int(side) for side in meta['ori_shape'][:2])
    if mask_logits.shape[0] == 0:
        return mask_logits.new_zeros((0, *size), dtype=torch.float32)
    canvas = F.interpolate(
        mask_logits[None].float(), tuple(int(side) for side in meta['batch_input_shape'][:2]),
        mode='bilinear', align_corners=False)
    image = canvas[..., :img_h, :img_w]
    return F.interpolate(image, size, mode='bilinear', align_corners=False)[0]


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


def decode_panoptic(raw: RawPrediction, sample: PerceptionDataSample, *, score_thr: float,
                    mask_thr: float, overlap_thr: float) -> dict[str, Any]:
    """Panoptic segmentation: every pixel goes to at most one segment.

    The query with the highest score times mask probability owns a pixel. A segment survives
    when it owns at least ``overlap_thr`` of the pixels that its mask claims.

    Args:
        raw: With ``logits`` (Q, K + 1).
        sample: Supplies the instruction and the frames.
        score_thr: A query takes part when its best phrase scores higher.
        mask_thr: Mask probability from which a pixel is claimed.
        overlap_thr: Least share of its claimed pixels that a segment must own.

    Returns:
        ``panoptic`` (h, w) int32 tensor of segment ids, 0 being void, and ``segments_info``:
        dicts of id, label, isthing, score. Stuff of one phrase is one segment.
    """
    scores, labels = word_probabilities(raw, sample).max(dim=-1)
    kept = torch.nonzero((labels < len(sample.instruction.phrases)) & (scores > score_thr))[:, 0]
    scores, labels, count = scores[kept], labels[kept], len(kept)
    masks = rescale_mask_logits(raw.mask_logits[kept], sample.metainfo).sigmoid_()
    if count == 0:
        empty = torch.zeros(masks.shape[1:], dtype=torch.int32, device=masks.device)
        return dict(panoptic=empty, segments_info=[])

    claimed = (masks >= mask_thr).flatten(1).sum(1)
    owner = (masks * scores[:, None, None]).argmax(dim=0)
    inside = masks.gather(0, owner[None])[0] >= mask_thr
    owned = torch.bincount(owner.flatten(), minlength=count)
    owner = torch.where(inside, owner, count)
    visible = torch.bincount(owner.flatten(), minlength=count + 1)[:count]
    alive = (visible > 0) & (owned >= overlap_thr * claimed)

    table = torch.stack((alive.double(), labels.double(), scores.double())).cpu().numpy()
    ids, segments = _number_segments(*table, is_thing=sample.instruction.is_thing)
    lut = torch.from_numpy(ids).to(owner.device)
    return dict(panoptic=lut[owner], segments_info=segments)


def _number_segments(alive: np.ndarray, labels: np.ndarray, scores: np.ndarray,
                     is_thing: np.ndarray) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Give segment ids to the n surviving queries, one id for all the stuff of a phrase.

    Returns:
        (n + 1,) int32 id of each query, 0 for the dropped ones and for the last entry, and the
        segments.
    """
    ids = np.zeros(len(alive) + 1, dtype=np.int32)
    segments: list[dict[str, Any]] = []
    stuff: dict[int, dict[str, Any]] = {}
    for query in np.flatnonzero(alive):
        label, score = int(labels[query]), float(scores[query])
        segment = stuff.get(label)
        if segment is None:
            thing = bool(is_thing[label])
            segment = dict(id=len(segments) + 1, label=label, isthing=thing, score=score)
            segments.append(segment)
            if not thing:
                stuff[label] = segment
        segment['score'] = max(segment['score'], score)
        ids[query] = segment['id']
    return ids, segments


def decode_semantic(raw: RawPrediction, sample: PerceptionDataSample) -> Tensor:
    """Semantic segmentation: each pixel's best phrase by the sum over all queries.

    Args:
        raw: With ``logits`` (Q, K + 1).
        sample: Supplies the instruction and the frames.

    Returns:
        (h, w) int64 phrase indices.
    """
    weights = word_probabilities(raw, sample)[:, :-1].T.contiguous()
    masks = rescale_mask_logits(raw.mask_logits, sample.metainfo).sigmoid_()
    # The (K, h, w) class scores are needed only for the argmax: a few rows at a time bound them.
    rows = max(1, _SEMANTIC_CHUNK // (weights.shape[0] * masks.shape[2]))
    parts = [torch.einsum('kq,qhw->khw', weights, part).argmax(0)
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
    found = _gather(raw, sample, index // columns, top, phrases[index % columns], with_masks,
                    weigh_by_mask=True)
    if with_masks:
        order = found.scores.argsort(descending=True, stable=True)
        found = found[order[found.scores[order] > score_thr]]
    return found


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
    return _gather(raw, sample, query, logits[query].sigmoid(), torch.zeros_like(query),
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
    return _gather(raw, sample, queries, top.sigmoid(), torch.zeros_like(queries), with_masks)


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
    return _gather(raw, sample, queries, scores[kept], torch.zeros_like(queries), with_masks)


def _sentence_logits(raw: RawPrediction) -> Tensor:
    if raw.logits.ndim != 1:
        raise ValueError('A sentence instruction needs logits of shape (Q,), got '
                         f'{tuple(raw.logits.shape)}')
    return raw.logits.float()


def _gather(raw: RawPrediction, sample: PerceptionDataSample, queries: Tensor, scores: Tensor,
            labels: Tensor, with_masks: bool, weigh_by_mask: bool = False) -> InstanceData:
    """Collect the answers of (n,) query indices; a query may appear more than once."""
    found = InstanceData(
        bboxes=rescale_boxes(raw.boxes[queries], sample.metainfo), scores=scores, labels=labels)
    if not with_masks:
        return found
    unique, place = queries.unique(return_inverse=True)
    logits = rescale_mask_logits(raw.mask_logits[unique], sample.metainfo)
    masks = logits > 0
    if weigh_by_mask:
        inside = (logits.sigmoid_() * masks).flatten(1).sum(1)
        found.scores = scores * (inside / masks.flatten(1).sum(1).clamp(min=1))[place]
    found.masks = masks[place]
    return found
