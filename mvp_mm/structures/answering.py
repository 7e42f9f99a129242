# Copyright (c) mvp_mm authors. All rights reserved.
"""The options of decoding that every task of a model shares."""
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from numbers import Real
from typing import Any


@dataclass(frozen=True)
class Answering:
    """How the tasks turn raw predictions into answers.

    A config sets it once, ``model=dict(answering=dict(same_iou=0.7))``; validation, test and
    inferencer then share it, since the model hands it to every task with the raw prediction.
    The defaults are the paper's: no option is on.

    Attributes:
        same_iou: For one-target sentences (RES, REC): queries whose boxes overlap at least this
            much count as one object and their probabilities are summed; None lets the best query
            answer alone.
        nms_iou: Box IoU above which the lower-scored of two answers with one label is removed,
            for instances, detections, grounded phrases and generalised referring; None keeps all.
        least_score: Answers with lower scores are left out, whatever the task's own threshold.

    Raises:
        ValueError: If a value is out of range.
    """

    same_iou: float | None = None
    nms_iou: float | None = None
    least_score: float = 0.0

    def __post_init__(self) -> None:
        for name in ('same_iou', 'nms_iou'):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and 0 < value <= 1):
                raise ValueError(f'answering.{name} must be None or in (0, 1], got {value!r}')
        if not (_is_number(self.least_score) and 0 <= self.least_score <= 1):
            raise ValueError(f'answering.least_score must be in [0, 1], got {self.least_score!r}')

    @classmethod
    def from_config(cls, options: Mapping[str, Any] | None) -> Answering:
        """Build it from a config's ``model.answering``.

        Raises:
            ValueError: If an option is unknown or out of range.
        """
        options = dict(options or {})
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                near = get_close_matches(str(name), known, n=1)
                hint = f'; did you mean {near[0]!r}?' if near else f', it has {", ".join(known)}'
                raise ValueError(f'model.answering has no option {name!r}{hint}')
        return cls(**options)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
