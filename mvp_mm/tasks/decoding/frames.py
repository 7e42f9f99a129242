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
from mvp_mm.utils.masks import encode_masks


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

    Full-size logits are made for a few queries at a time, each mask that the threshold does not
    drop is written to its place in the result, and the result is put in order in place.

    Args:
        raw: With ``boxes`` and ``mask_logits``.
        sample: Supplies the frames. Where its metainfo has ``compact_masks``, masks are encoded
            as they are made, each query's once: 200 of 12 megapixels are 2.4 GB as bool.
        queries: (n,) indices.
        scores: (n,) scores.
        labels: (n,) phrases.
        with_masks: Add ``masks``, (n, h, w) bool or, compact, a list of n COCO RLE dicts.
        weigh_by_mask: Multiply scores by the mean probability inside the mask and put the
            answers in descending order.
        score_thr: With ``weigh_by_mask``, weighed scores must be higher.
    """
    found = InstanceData(
        bboxes=rescale_boxes(raw.boxes[queries], sample.metainfo), scores=scores, labels=labels)
    if not with_masks:
        return found
    unique, place = queries.unique(return_inverse=True)
    size = tuple(map(int, sample.metainfo['ori_shape'][:2]))
    compact: list[dict[str, Any]] | None = [] if sample.metainfo.get('compact_masks') else None
    masks = torch.empty((len(queries) if compact is None else 0, *size), dtype=torch.bool,
                        device=queries.device)
    scores, written, start = scores.clone(), [], 0
    for logits in rescaled_groups(raw.mask_logits[unique], sample.metainfo):
        members = ((place >= start) & (place < start + len(logits))).nonzero()[:, 0]
        rows, inside = place[members] - start, logits > 0
        if weigh_by_mask:
            scores[members] *= _certainty(logits, inside)[rows]
            if score_thr is not None:
                kept = scores[members] > score_thr
                members, rows = members[kept], rows[kept]
        if compact is None:
            torch.index_select(inside, 0, rows,
                               out=masks[len(written):len(written) + len(rows)])
        else:
            compact += _encode_rows(inside, rows)
        written += members.tolist()
        start += len(logits)
    order = torch.tensor(sorted(written), dtype=torch.int64, device=queries.device)
    if weigh_by_mask:
        order = order[scores[order].argsort(descending=True, stable=True)]
    found.scores = scores
    found = found[order]
    row_of = {answer: row for row, answer in enumerate(written)}
    places = [row_of[answer] for answer in order.tolist()]
    found.masks = (_reorder(masks, places) if compact is None
                   else [compact[place] for place in places])
    return found


def _encode_rows(masks: Tensor, rows: Tensor) -> list[dict[str, Any]]:
    """COCO RLE dicts of some rows of (n, h, w) masks; a row that is there twice is encoded once."""
    codes = {row: encode_masks(masks[row:row + 1])[0] for row in set(rows.tolist())}
    return [codes[row] for row in rows.tolist()]


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


def _reorder(masks: Tensor, places: list[int]) -> Tensor:
    """Put the m rows at some places in that order, in place: the masks may fill the memory.

    Args:
        masks: (n, h, w), of which the first m rows are overwritten.
        places: A permutation of 0 ... m - 1.

    Returns:
        (m, h, w).
    """
    count, done = len(places), set()
    for first in range(count):
        if first in done or places[first] == first:
            continue
        saved, row = masks[first].clone(), first
        while places[row] != first:
            masks[row] = masks[places[row]]
            done.add(row)
            row = places[row]
        masks[row] = saved
        done.add(row)
    # A view keeps the memory of all n rows; a copy of more than half of them takes more.
    return masks[:count].clone() if 2 * count < len(masks) else masks[:count]
