# Copyright (c) mvp_mm authors. All rights reserved.
"""Runs the LLM's layers: on whole sequences, behind a kept prefix, and token by token."""
from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

from mvp_mm.models.llms.cache import spread

if TYPE_CHECKING:
    from mvp_mm.models.llms.causal_lm import CausalLM


class Writing(Protocol):
    """R prompts that have been read and are continued token by token.

    Attributes:
        states: Hidden states of the prompts, one (R, T, D) tensor for each kept layer.
        last_hidden: (R, T, D) those of the last layer.
    """

    states: list[Tensor]
    last_hidden: Tensor

    def append(self, token: Tensor, position: Tensor, seen: Tensor) -> Tensor:
        """Read one more token of each row.

        Args:
            token: (R,) int64.
            position: (R,) int64, its position in the row's text.
            seen: (R,) bool, whether later tokens of the row see it.

        Returns:
            (R, D) its hidden states of the last layer.
        """

    def keep(self, rows: Tensor) -> bool:
        """Go on with rows (n,) int64 alone; False where the text keeps all of its rows."""


class EagerRunner:
    """Runs the layers one operation after the other, with a cache that grows.

    Args:
        llm: The LLM.
    """

    def __init__(self, llm: CausalLM) -> None:
        self.llm = llm

    def read(self, embeds: Tensor) -> list[Tensor]:
        """Compute the kept states of sequences (R, T, D) under a causal mask."""
        return self.llm.keep(self.llm.run_causal(embeds))

    def read_behind(self, embeds: Tensor, prefix: DynamicCache) -> list[Tensor]:
        """Compute the kept states of R sequences (R, T, D) that continue one prefix."""
        return self.llm.keep(self.llm.run(embeds, cache=spread(prefix, len(embeds))))

    def start(self, embeds: Tensor, mask: Tensor, prefix: DynamicCache | None,
              room: int) -> Writing:
        """Read prompts, to continue them.

        Args:
            embeds: (R, T, D) embeddings of prompts.
            mask: (R, T) bool, False at padding, which may stand on either side.
            prefix: From :meth:`CausalLM.read_prefix`: what precedes each of the prompts.
            room: Most tokens that will be appended.
        """
        return GrowingText(self.llm, embeds, mask, prefix)


class GrowingText:
    """Prompts that are continued with a cache that grows; see :class:`Writing`."""

    def __init__(self, llm: CausalLM, embeds: Tensor, mask: Tensor,
                 prefix: DynamicCache | None) -> None:
        past = 0 if prefix is None else prefix.get_seq_length()
        self._llm = llm
        self._mask = F.pad(mask, (past, 0), value=True)
        self._cache = (DynamicCache(config=llm.lm.config) if prefix is None
                       else spread(prefix, len(embeds)))
        positions = past + (mask.cumsum(1) - 1).clamp(min=0)
        out = llm.run(embeds, self._mask, self._cache, positions)
        self.states, self.last_hidden = llm.keep(out), out.last_hidden_state

    def append(self, token: Tensor, position: Tensor, seen: Tensor) -> Tensor:
        """See :class:`Writing`."""
        self._mask = torch.cat([self._mask, seen[:, None]], dim=1)
        out = self._llm.run(self._llm.embed(token[:, None]), self._mask, self._cache,
                            position[:, None])
        return out.last_hidden_state[:, 0]

    def keep(self, rows: Tensor) -> bool:
        """See :class:`Writing`."""
        self._mask = self._mask[rows]
        self._cache.batch_select_indices(rows)
        return True
