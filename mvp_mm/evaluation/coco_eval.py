# Copyright (c) mvp_mm authors. All rights reserved.
"""The seam around the libraries that compute COCO's average precision."""
from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import faster_coco_eval
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

# The first is the default.
BACKENDS = ('faster_coco_eval', 'pycocotools')
AREAS = ('all', 'small', 'medium', 'large')
Records = Sequence[dict[str, Any]]


def load_backend(name: str) -> tuple[type, type]:
    """The classes of annotations and evaluation of a library.

    Raises:
        ValueError: If it is unknown.
    """
    if name not in BACKENDS:
        raise ValueError(f'backend must be one of {BACKENDS}, got {name!r}')
    if name == 'pycocotools':
        return COCO, COCOeval
    return faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster


def precision_of(truth: dict[str, Any], found: Records, iou_type: str, *,
                 max_found: int = 100, areas: Sequence[str] = AREAS,
                 backend: str = BACKENDS[0], evaluation: type | None = None) -> np.ndarray:
    """Precision of predictions.

    Args:
        truth: A COCO data set: ``images``, ``annotations`` with id, area and iscrowd,
            ``categories``.
        found: Annotations with a score and an area, in the same form.
        iou_type: ``'bbox'`` or ``'segm'``.
        max_found: Most predictions of a class in an image.
        areas: Which of COCO's ranges of object size.
        backend: Name of the library.
        evaluation: A subclass of the library's evaluation to use in its place.

    Returns:
        (10 IoU thresholds, 101 recalls, categories, areas) float64, -1 where undefined.
    """
    dataset, default = load_backend(backend)
    sides = []
    with contextlib.redirect_stdout(io.StringIO()):
        for annotations in (truth['annotations'], found):
            side = dataset()
            # The libraries note matches in the annotations.
            side.dataset = dict(truth, annotations=[dict(a) for a in annotations])
            side.createIndex()
            sides.append(side)
        run = (evaluation or default)(*sides, iouType=iou_type)
        run.params.maxDets = [max_found]
        kept = [AREAS.index(area) for area in areas]
        run.params.areaRng = [run.params.areaRng[k] for k in kept]
        run.params.areaRngLbl = list(areas)
        run.evaluate()
        run.accumulate()
    return np.asarray(run.eval['precision'])[..., 0]
