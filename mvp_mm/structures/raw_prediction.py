# Copyright (c) mvp_mm authors. All rights reserved.
"""Holds the network's outputs for one instruction, before a task decodes them."""
from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from mvp_mm.structures.answering import Answering


@dataclass
class RawPrediction:
    """Last decoder layer's outputs for one instruction (Q queries, K phrases).

    Attributes:
        logits: (Q, K + 1) for word instructions, the last column being "no object"; (Q,) for
            sentence instructions (one independent logit per query).
        boxes: (Q, 4) cxcywh, normalised by the padded canvas.
        mask_logits: (Q, H / s, W / s) over the padded canvas, at the stride s of the mask features.
        num_dynamic: Number N of dynamic queries; queries from N on are stuff queries.
        caption: The text that the LLM wrote before ``<PER>``.
        answering: The model's options of decoding.
    """

    logits: Tensor
    boxes: Tensor
    mask_logits: Tensor
    num_dynamic: int
    caption: str = ''
    answering: Answering = field(default_factory=Answering)
