# Copyright (c) mvp_mm authors. All rights reserved.
"""Ends written responses with the tokens that a response ends with in training."""
from __future__ import annotations

import torch
from torch import Tensor


class ForcedEnding:
    """Replaces tokens so that every row ends with its whole ending.

    A row's ending is forced where it stops early (end of text before its last token), and at the
    limit, where room for it is kept. Tokens of the ending that the row has just written itself
    are not repeated.

    Args:
        endings: Token ids that each of R rows ends with.
        limit: (R,) int64, tokens that each row may write, its ending included.
        eos_id: End of text, which stops any row; None where nothing but the last token does.

    Attributes:
        last: (R,) int64, the token that ends each row.
        forced: (R,) bool, rows that would have written something else.
    """

    def __init__(self, endings: list[list[int]], limit: Tensor, eos_id: int | None) -> None:
        device = limit.device
        self.length = torch.tensor([len(e) for e in endings], device=device)
        most = max(map(len, endings))
        self.ids = torch.tensor([e + [-1] * (most - len(e)) for e in endings], device=device)
        self.last = self.ids.gather(1, self.length[:, None] - 1)[:, 0]
        self.limit = limit
        self.eos_id = eos_id
        self.forced = torch.zeros_like(limit, dtype=torch.bool)
        self._forcing = self.forced.clone()
        self._matched = torch.zeros_like(limit)

    def keep(self, rows: Tensor) -> None:
        """Go on with rows (n,) int64 alone."""
        for name in ('length', 'ids', 'last', 'limit', 'forced', '_forcing', '_matched'):
            setattr(self, name, getattr(self, name)[rows])

    def next_token(self, step: int, token: Tensor, done: Tensor) -> Tensor:
        """Choose between the LLM's token and the ending's.

        Args:
            step: Tokens written so far.
            token: (R,) int64, what the LLM would write next.
            done: (R,) bool, rows that have ended.

        Returns:
            (R,) int64.
        """
        expected = self.ids.gather(1, self._matched[:, None])[:, 0]
        cut = self.limit - step <= self.length
        if self.eos_id is not None:
            cut = cut | ((token == self.eos_id) & (self.last != self.eos_id))
        self._forcing = self._forcing | cut
        self.forced = self.forced | (self._forcing & (token != expected) & ~done)
        token = torch.where(self._forcing, expected, token)
        begun = (token == self.ids[:, 0]).long()
        matched = torch.where(token == expected, self._matched + 1, begun)
        self._matched = torch.minimum(matched, self.length - 1)
        return token
