# Copyright (c) mvp_mm authors. All rights reserved.
"""From the padded canvas to the original image's frame."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor
from torchvision.ops import box_convert

from mvp_mm.structures import PerceptionDataSample, RawPrediction


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
    canvas = _resize(mask_logits.float(), tuple(map(int, meta['batch_input_shape'][:2])))
    return _resize(canvas[..., :img_h, :img_w], size).contiguous()


def rescale_rows(mask_logits: Tensor, rows: Tensor,
                 meta: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Some masks in the original image, without a copy where they lie there already.

    Args:
        mask_logits: (Q, H', W') over the canvas, at any stride.
        rows: (n,) those wanted.
        meta: As in :func:`rescale_boxes`.

    Returns:
        (m, h, w) contiguous float32 logits, m being Q or n, and the (n,) places of the wanted.
    """
    sizes = {tuple(map(int, meta[key][:2]))
             for key in ('batch_input_shape', 'img_shape', 'ori_shape')}
    if sizes == {tuple(mask_logits.shape[-2:])}:
        return mask_logits.float().contiguous(), rows
    return rescale_mask_logits(mask_logits[rows], meta), torch.arange(
        len(rows), device=rows.device)


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear; maps that have the size already are not touched."""
    if tuple(maps.shape[-2:]) == size:
        return maps
    return F.interpolate(maps[None], size, mode='bilinear', align_corners=False)[0]


def gather_answers(raw: RawPrediction, sample: PerceptionDataSample, queries: Tensor,
                   scores: Tensor, labels: Tensor, with_masks: bool,
                   weigh_by_mask: bool = False) -> InstanceData:
    """Collect the answers of (n,) query indices; a query may appear more than once.

    Args:
        raw: With ``boxes`` and ``mask_logits``.
        sample: Supplies the frames.
        queries: (n,) indices.
        scores: (n,) scores.
        labels: (n,) phrases.
        with_masks: Add ``masks`` (n, h, w) bool.
        weigh_by_mask: Multiply scores by the mean probability inside the mask.
    """
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
