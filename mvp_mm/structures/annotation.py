# Copyright (c) mvp_mm authors. All rights reserved.
"""Holds the annotation of one image in one form for every dataset."""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Referral:
    """A referring expression and the objects it means.

    Attributes:
        sentence: The expression.
        targets: Indices into the image's objects; empty when nothing in the image is meant.
        ref_id: Identifier in the source file.
        sent_id: Identifier of the sentence in the source file.
        kind: Kind of expression (attribute, ordinal, …) where the source tells, else ``''``.
    """

    sentence: str
    targets: list[int]
    ref_id: int | str = ''
    sent_id: int | str = ''
    kind: str = ''


@dataclass
class ImageAnnotation:
    """Everything a task may turn into instructions.

    Objects are the image's n boxes (and masks); they live beside this object in the pipeline's
    results (``gt_bboxes``, ``gt_masks``), in the same order.

    Attributes:
        source: Name of the dataset and the image, for messages.
        vocabulary: The dataset's class names.
        vocabulary_is_thing: (C,) bool.
        labels: (n,) int64, index into the vocabulary, -1 where an object has no class.
        crowd: (n,) bool, regions that are neither targets nor background.
        referrals: Referring expressions.
        captions: Captions of the image, already cleaned.
        caption_spans: For phrase grounding: ``(phrase, targets)`` pairs of the caption.
    """

    source: str
    vocabulary: tuple[str, ...] = ()
    vocabulary_is_thing: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    crowd: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    referrals: list[Referral] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    caption_spans: list[tuple[str, list[int]]] = field(default_factory=list)
