# Copyright (c) mvp_mm authors. All rights reserved.
"""Holds an instruction with its targets among the image's objects."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mvp_mm.structures.instruction import Instruction


@dataclass
class Request:
    """What a task makes of an annotation.

    Attributes:
        instruction: The question.
        targets: (m,) int64 indices into the image's n objects.
        labels: (m,) int64 indices into the instruction's phrases.
        task: The task that asks and will decode the answer; set by the pipeline.
        meta: Facts that the metric needs (``ref_id``, ``sent_id``, ``expression_kind``, …);
            copied to the data sample's metainfo.
    """

    instruction: Instruction
    targets: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    task: Any = None
    meta: dict[str, Any] = field(default_factory=dict)
