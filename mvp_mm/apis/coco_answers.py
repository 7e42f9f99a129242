# Copyright (c) mvp_mm authors. All rights reserved.
"""Joins answers to the content of one COCO file."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mvp_mm.apis.answer import Answer


def to_coco(answers: Sequence[Answer]) -> dict[str, Any]:
    """Join answers to the content of one COCO file.

    Args:
        answers: Any number; those about one image share its entry.

    Returns:
        ``images``, ``categories`` (in the order in which labels first appear) and
        ``annotations`` with ``score`` (absent where a segment has none).
    """
    images: dict[str, dict[str, Any]] = {}
    categories: dict[str, int] = {}
    annotations = []
    for answer in answers:
        height, width = answer.image_size
        image = images.setdefault(answer.image, dict(
            id=len(images) + 1, file_name=answer.image, height=height, width=width))
        for item in answer.to_dict()['objects']:
            x1, y1, x2, y2 = item['bbox']
            box = [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)]
            annotation = dict(
                id=len(annotations) + 1, image_id=image['id'],
                category_id=categories.setdefault(item['label'], len(categories) + 1),
                bbox=box, area=round(box[2] * box[3], 2), iscrowd=0)
            if item['score'] is not None:
                annotation['score'] = item['score']
            if 'segmentation' in item:
                annotation['segmentation'] = item['segmentation']
            annotations.append(annotation)
    return dict(images=list(images.values()), annotations=annotations,
                categories=[dict(id=number, name=name) for name, number in categories.items()])
