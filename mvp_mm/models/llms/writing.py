# Copyright (c) mvp_mm authors. All rights reserved.
"""What the LLM writes."""
from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Generation:
    """What the LLM wrote.

    Attributes:
        tokens: (R, n) int64 generated ids, the last token included, padded with -1.
        prompt_states: Hidden states of the prompt, one (R, T, D) tensor per kept layer.
        summary: (R, D) hidden state of the last token.
        forced: (R,) bool, rows whose ending was forced.
    """

    tokens: Tensor
    prompt_states: list[Tensor]
    summary: Tensor
    forced: Tensor
