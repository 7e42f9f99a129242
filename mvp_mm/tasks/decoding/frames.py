# Copyright (c) mvp_mm authors. All rights reserved.
"""Moves boxes and answers from the padded canvas to the original image's frame."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor
from torchvision.ops import batched_nms, box_convert

from mvp_mm.structures import PerceptionDataSample, RawPrediction
from mvp_mm.tasks.decoding.bands import rescaled_groups


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


def suppress(boxes: Tensor, scores: Tensor, labels: Tensor, iou: float | None) -> Tensor:
    """Apply non-maximum suppression (NMS) within each label.

    Args:
        boxes: (n, 4) cxcywh.
        scores: (n,).
        labels: (n,).
        iou: Box IoU above which the lower-scored of two answers is removed; None keeps all.

    Returns:
        Indices of the kept answers, in descending order of their scores.
    """
    if iou is None:
        return scores.argsort(descending=True, stable=True)
    return batched_nms(box_convert(boxes.float(), 'cxcywh', 'xyxy'), scores, labels, iou)


def gather_answers(raw: RawPrediction, sample: PerceptionDataSample, queries: Tensor,
                   scores: Tensor, labels: Tensor, with_masks: bool,
                   weigh_by_mask: bool = False, score_thr: float | None = None) -> InstanceData:
    """Collect the answers of (n,) query indices; a query may appear more than once.

    Full-size logits are made for a few queries at a time, and the masks of answers that the
    threshold drops are not kept.

    Args:
        raw: With ``boxes`` and ``mask_logits``.
        sample: Supplies the frames.
        queries: (n,) indices.
        scores: (n,) scores.
        labels: (n,) phrases.
        with_masks: Add ``masks`` (n, h, w) bool.
        weigh_by_mask: Multiply scores by the mean probability inside the mask and put the
            answers in descending order.
        score_thr: With ``weigh_by_mask``, weighed scores must be higher.
    """
    found = InstanceData(
        bboxes=rescale_boxes(raw.boxes[queries], sample.metainfo), scores=scores, labels=labels)
    if not with_masks:
        return found
    unique, place = queries.unique(return_inverse=True)
    # A weight is at most 1, so what is not above the threshold now never will be.
    highest = torch.full((len(unique),), torch.inf, device=scores.device)
    if weigh_by_mask and score_thr is not None:
        highest = highest.neg().scatter_reduce(0, place, scores, 'amax')
    masks: list[Tensor | None] = []
    weights = []
    for logits in rescaled_groups(raw.mask_logits[unique], sample.metainfo):
        inside = logits > 0
        weight = _certainty(logits, inside) if weigh_by_mask else logits.new_ones(len(logits))
        weights.append(weight)
        likely = highest[len(masks):len(masks) + len(logits)] * weight
        masks += [mask.clone() if score_thr is None or score > score_thr else None
                  for mask, score in zip(inside, likely.tolist(), strict=True)]
    order = torch.arange(len(queries), device=queries.device)
    if weigh_by_mask:
        found.scores = scores * torch.cat([*weights, scores.new_zeros(0)])[place]
        order = found.scores.argsort(descending=True, stable=True)
        if score_thr is not None:
            order = order[found.scores[order] > score_thr]
    found = found[order]
    found.masks = _stack(masks, place[order].tolist(), sample.metainfo, queries.device)
    return found


def mask_weights(raw: RawPrediction, sample: PerceptionDataSample, queries: Tensor) -> Tensor:
    """(n,) mean probabilities inside the masks of (n,) queries, 0 where a mask is empty."""
    unique, place = queries.unique(return_inverse=True)
    weights = [_certainty(logits, logits > 0)
               for logits in rescaled_groups(raw.mask_logits[unique], sample.metainfo)]
    return torch.cat(weights)[place]


def _certainty(logits: Tensor, inside: Tensor) -> Tensor:
    """(n,) mean probabilities of (n, h, w) logits inside their masks; logits are overwritten."""
    total = logits.sigmoid_().mul_(inside).flatten(1).sum(1)
    return total / inside.flatten(1).sum(1).clamp(min=1)


def _stack(masks: list[Tensor | None], places: list[int], meta: Mapping[str, Any],
           device: torch.device) -> Tensor:
    """(n, h, w) of the masks at some places; each of them is freed where it is needed no more."""
    left = dict.fromkeys(places, 0)
    for place in places:
        left[place] += 1
    masks[:] = [mask if place in left else None for place, mask in enumerate(masks)]
    size = tuple(map(int, meta['ori_shape'][:2]))
    stacked = torch.empty((len(places), *size), dtype=torch.bool, device=device)
    for row, place in enumerate(places):
        stacked[row] = masks[place]
        left[place] -= 1
        if not left[place]:
            masks[place] = None
    return stacked
