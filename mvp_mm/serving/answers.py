# Copyright (c) mvp_mm authors. All rights reserved.
"""Writes answers of the model in the server's schema."""
from __future__ import annotations

from typing import Any

from mvp_mm.serving.schema import FoundObject, PredictResponse, Seconds
from mvp_mm.serving.service import Answered


def to_response(answered: Answered, ident: str, total: float) -> PredictResponse:
    """Write an answer in the schema.

    Args:
        answered: The answer.
        ident: Id of the request.
        total: Seconds since the question came.
    """
    content = answered.answer.to_dict()
    return PredictResponse(
        id=ident, task=content['task'], reason=content['reason'], image_size=content['size'],
        caption=content['caption'], found=content['found'],
        objects=sorted(map(_object, content['objects']), key=lambda one: -(one.score or 0.)),
        batch_size=answered.batch_size, seconds=Seconds(**answered.seconds, total=total))


def _object(content: dict[str, Any]) -> FoundObject:
    return FoundObject(
        label=content['label'], score=content['score'], box=content['bbox'],
        mask=content.get('segmentation'), segment_id=content.get('id'),
        is_thing=content.get('isthing'))
