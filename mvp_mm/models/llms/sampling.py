# Copyright (c) mvp_mm authors. All rights reserved.
"""Chooses the token that is written next: greedy or nucleus sampling."""
from __future__ import annotations

import zlib
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """Settings of nucleus sampling.

    What a row draws depends on the seed and on its prompt alone, not on the rows beside it.

    Attributes:
        temperature: Logits are divided by it.
        top_p: The most probable tokens are kept until their sum reaches it.
        seed: Start of the random numbers.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f'sampling.temperature must be positive, got {self.temperature}; '
                             'sampling=None writes the most probable token')
        if not 0 < self.top_p <= 1:
            raise ValueError(f'sampling.top_p must be in (0, 1], got {self.top_p}')

    def noise(self, prompts: list[list[int]], count: int) -> Tensor:
        """Draw random numbers (R, count) in [0, 1) for R prompts of token ids."""
        rows = []
        for ids in prompts:
            generator = torch.Generator()
            generator.manual_seed(zlib.crc32(str(ids).encode(), self.seed))
            rows.append(torch.rand(count, generator=generator))
        return torch.stack(rows)


def choose(logits: Tensor, sampling: Sampling | None, noise: Tensor | None) -> Tensor:
    """Choose a token for each row.

    Args:
        logits: (R, vocabulary).
        sampling: None takes the most probable token.
        noise: (R,) in [0, 1), where in the distribution of the row its token lies.

    Returns:
        (R,) int64.
    """
    if sampling is None:
        return logits.argmax(-1)
    prob, order = (logits.float() / sampling.temperature).softmax(-1).sort(descending=True)
    prob = prob.masked_fill(prob.cumsum(-1) - prob >= sampling.top_p, 0.0)
    reached = prob.cumsum(-1)
    rank = (reached <= noise[:, None] * reached[:, -1:]).sum(-1)
    # Rounding must not reach past the last token that was kept.
    rank = torch.minimum(rank, (prob > 0).sum(-1) - 1)
    return order.gather(1, rank[:, None])[:, 0]
