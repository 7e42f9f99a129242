# Copyright (c) mvp_mm authors. All rights reserved.
"""Writes answers of the model in the server's schema."""
from __future__ import annotations

from typing import Any

import numpy as np

from mvp_mm.serving.schema import FoundObject, Mask, PredictResponse, Seconds, Segment
from mvp_mm.serving.service import Answered
from mvp_mm.utils.arrays import to_numpy
from mvp_mm.utils.masks import encode_masks


def to_response(answered: Answered, ident: str, total: float) -> PredictResponse:
    """Write an answer in the schema; masks become run-length codes.

    Args:
        answered: The answer.
        ident: Id of the request.
        total: Seconds since the question came.
    """
    answer = answered.answer
    return PredictResponse(
        id=ident, task=answer.task, image_size=tuple(int(side) for side in answer.image_size),
        caption=answer.caption, found=bool(answer.found), objects=_objects(answer),
        segments=_segments(answer), batch_size=answered.batch_size,
        seconds=Seconds(**answered.seconds, total=total))


def _objects(answer: Any) -> list[FoundObject]:
    boxes, scores = to_numpy(answer.boxes), to_numpy(answer.scores)
    masks = [None] * len(boxes) if answer.masks is None else to_masks(answer.masks)
    rows = zip(answer.labels, scores.tolist(), boxes.tolist(), masks, strict=True)
    found = [FoundObject(label=label, score=round(score, 4), mask=mask,
                         box=tuple(round(side, 2) for side in box))
             for label, score, box, mask in rows]
    return sorted(found, key=lambda one: -one.score)


def _segments(answer: Any) -> list[Segment] | None:
    if answer.segments is None:
        return None
    region_map, regions = answer.segments
    region_map = to_numpy(region_map)
    segments = []
    for region in regions:
        mask, = to_masks((region_map == region['id'])[None])
        score = region.get('score')
        segments.append(Segment(
            id=int(region['id']), label=region['label'], is_thing=bool(region['isthing']),
            score=None if score is None else round(float(score), 4), mask=mask))
    return segments


def to_masks(masks: Any) -> list[Mask]:
    """(n, H, W) bool masks as run-length codes."""
    rles = encode_masks(np.asarray(to_numpy(masks), dtype=bool))
    return [Mask(size=tuple(rle['size']), counts=rle['counts'].decode()) for rle in rles]
