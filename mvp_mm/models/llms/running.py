# Copyright (c) mvp_mm authors. All rights reserved.
"""Runs the LLM's layers: on whole rows, behind a kept prefix, and token by token."""
from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

from mvp_mm.models.llms.cache import spread
from mvp_mm.models.packing import PackedRows, RowLayout, length_groups, visible

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


def run_rows(llm: CausalLM, embeds: Tensor, layout: RowLayout) -> list[Tensor]:
    """Compute the kept states of right-padded rows, laid out as few sequences.

    Args:
        llm: The LLM, whose settings say how the rows are laid out.
        embeds: (R, T, D) input embeddings.
        layout: Lengths of the rows and what they share.

    Returns:
        One (R, T, D) tensor for each kept layer; without meaning at padding.
    """
    packed = PackedRows.of(layout, embeds.shape[1], llm.sequence_packing)
    whole = [(list(range(len(packed.lengths))), max(packed.lengths))]
    groups = whole if llm.in_one_pass else length_groups(packed.lengths)
    parts = [_run_packed(llm, embeds, packed, *group) for group in groups]
    order = torch.from_numpy(packed.order(groups)).to(embeds.device, non_blocking=True)
    return [torch.cat(layer).index_select(0, order.flatten()).view(embeds.shape)
            for layer in zip(*parts, strict=True)]


def _run_packed(llm: CausalLM, embeds: Tensor, packed: PackedRows, sequences: list[int],
                length: int) -> list[Tensor]:
    """Run some sequences, cut to a length; one (S · length, D) tensor for each kept layer."""
    def on_device(values: np.ndarray) -> Tensor:
        cut = np.ascontiguousarray(values[sequences, :length])
        return torch.from_numpy(cut).to(embeds.device, non_blocking=True)

    source = on_device(packed.source)
    inputs = embeds.flatten(0, 1).index_select(0, source.flatten()).view(*source.shape, -1)
    if packed.shared(sequences):
        kept = llm.keep(llm.run(inputs, visible(on_device(packed.segment),
                                                on_device(packed.block)),
                                positions=on_device(packed.positions)))
    else:
        kept = llm.runner.read(inputs)
    return [states.flatten(0, 1) for states in kept]


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
