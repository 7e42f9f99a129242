# Copyright (c) mvp_mm authors. All rights reserved.
"""Runs the LLM as captured graphs: whole prompts, behind a kept prefix, and token by token."""
from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast

from mvp_mm.models.acceleration.graphs import CapturedFunction
from mvp_mm.models.llms import CausalLM

# Lengths are rounded up to multiples of these, so that few graphs serve all prompts.
PROMPT_STEP = 64
QUESTION_STEP = 16
TEXT_STEP = 128


class FixedCache:
    """Holds keys and values of R rows in tensors of a fixed size, as transformers' layers ask.

    Args:
        llm: The LLM that reads into it.
        like: A cache of this LLM.
        rows: Rows R.
        size: Slots.

    Attributes:
        keys: One (R, heads, slots, channels) tensor per layer.
        values: Likewise.
    """

    is_compileable = True

    def __init__(self, llm: CausalLM, like: DynamicCache, rows: int, size: int) -> None:
        def empty(tensor: Tensor) -> Tensor:
            return tensor.new_zeros(rows, tensor.shape[1], size, tensor.shape[3])

        self.keys = [empty(layer.keys) for layer in like.layers]
        self.values = [empty(layer.values) for layer in like.layers]
        self._llm = llm
        self._slot: Tensor | None = None
        # What is given out is read before the next token's.
        self.step = CapturedFunction(self._step, keep_outputs=False)

    @property
    def rows(self) -> int:
        """Rows R."""
        return len(self.keys[0])

    @property
    def size(self) -> int:
        """Slots."""
        return self.keys[0].shape[2]

    def update(self, keys: Tensor, values: Tensor, layer: int,
               *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write keys and values (R, heads, n, channels) of a layer; return all of that layer."""
        self.keys[layer].index_copy_(2, self._slot, keys)
        self.values[layer].index_copy_(2, self._slot, values)
        return self.keys[layer], self.values[layer]

    def _step(self, embeds: Tensor, slot: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """Read one token of each row into a slot; its last states (R, D)."""
        self._slot = slot
        out = self._llm.run(embeds, mask[:, None, None], self, position[:, None])
        return out.last_hidden_state[:, 0]

    def get_seq_length(self, layer: int = 0) -> int:
        """Not known on the host; positions and masks are always given."""
        return 0

    def take(self, start: int, cache: DynamicCache) -> None:
        """Write what a cache holds of each row, or of one for all, from a slot on."""
        for ours, theirs in ((self.keys, [x.keys for x in cache.layers]),
                             (self.values, [x.values for x in cache.layers])):
            for target, source in zip(ours, theirs, strict=True):
                target[:, :, start:start + source.shape[2]].copy_(source)


class CapturedRunner:
    """Runs an LLM's layers as CUDA graphs; see :class:`~mvp_mm.models.llms.running.EagerRunner`.

    Prompts must be padded on the right: padding that is added behind them changes nothing under
    a causal mask. Where a gradient is asked for, the layers run as they are.

    Args:
        llm: The LLM, which must attend to whole sequences (no sliding window, no recurrence).
        most: Graphs that are kept for prompts, and as many for each other use.
    """

    def __init__(self, llm: CausalLM, most: int = 16) -> None:
        self.llm = llm
        self._read = CapturedFunction(self._states, most)
        self._behind = CapturedFunction(self._states_behind, most)
        self._prefill = CapturedFunction(self._states_and_cache, most)
        # A fixed cache serves one text at a time; those of finished texts wait for the next.
        self._free: dict[tuple, list[FixedCache]] = defaultdict(list)

    def read(self, embeds: Tensor) -> list[Tensor]:
        """Compute the kept states of sequences (R, T, D) under a causal mask."""
        if torch.is_grad_enabled():
            return self.llm.keep(self.llm.run_causal(embeds))
        length = embeds.shape[1]
        return [s[:, :length] for s in self._read(self._padded(embeds, PROMPT_STEP))]

    def read_behind(self, embeds: Tensor, prefix: DynamicCache) -> list[Tensor]:
        """Compute the kept states of R sequences (R, T, D) that continue one prefix."""
        length = embeds.shape[1]
        found = self._behind(self._padded(embeds, QUESTION_STEP), *_tensors_of(prefix))
        return [s[:, :length] for s in found]

    def start(self, embeds: Tensor, mask: Tensor, prefix: DynamicCache | None,
              room: int) -> CapturedText:
        """Read prompts, to continue them; see :class:`EagerRunner`."""
        return CapturedText(self, embeds, mask, prefix, room)

    def prefill(self, embeds: Tensor,
                prefix: DynamicCache | None) -> tuple[list[Tensor], Tensor, DynamicCache]:
        """Kept states, last states and cache of prompts padded to a graph's length."""
        pairs = () if prefix is None else _tensors_of(prefix)
        kept, last, keys, values = self._prefill(embeds, *pairs)
        return kept, last, DynamicCache(list(zip(keys, values, strict=True)))

    def borrow(self, like: DynamicCache, rows: int, size: int) -> FixedCache:
        """Take a cache of so many rows and slots that no other text uses."""
        key = rows, size, like.layers[0].keys.dtype
        try:
            return self._free[key].pop()
        except IndexError:
            return FixedCache(self.llm, like, rows, size)

    def give_back(self, cache: FixedCache) -> None:
        """Let the next text use a cache."""
        self._free[cache.rows, cache.size, cache.keys[0].dtype].append(cache)

    def _padded(self, embeds: Tensor, step: int, past: int = 0) -> Tensor:
        """Pad on the right to a multiple of ``step``, as far as the LLM's context goes."""
        room = max(0, self.llm.max_length - past - embeds.shape[1])
        return F.pad(embeds, (0, 0, 0, min(-embeds.shape[1] % step, room)))

    def _states(self, embeds: Tensor) -> list[Tensor]:
        return self.llm.keep(self.llm.run_causal(embeds, DynamicCache(config=self.llm.lm.config)))

    def _states_behind(self, embeds: Tensor, *pairs: Tensor) -> list[Tensor]:
        return self.llm.keep(self._run_behind(embeds, _cache_of(pairs, len(embeds))))

    def _states_and_cache(self, embeds: Tensor, *pairs: Tensor) -> tuple:
        if pairs:
            cache = _cache_of(pairs, len(embeds))
            out = self._run_behind(embeds, cache)
        else:
            cache = DynamicCache(config=self.llm.lm.config)
            out = self.llm.run_causal(embeds, cache)
        return (self.llm.keep(out), out.last_hidden_state,
                [layer.keys for layer in cache.layers], [layer.values for layer in cache.layers])

    def _run_behind(self, embeds: Tensor, cache: DynamicCache) -> BaseModelOutputWithPast:
        """Run sequences behind a cache under a mask that is made on the device."""
        past, length = cache.get_seq_length(), embeds.shape[1]
        mask = torch.ones(length, past + length, dtype=torch.bool, device=embeds.device).tril(past)
        positions = torch.arange(past, past + length, device=embeds.device)[None]
        return self.llm.run(embeds, mask[None, None].expand(len(embeds), -1, -1, -1), cache,
                            positions.expand(len(embeds), -1))


class CapturedText:
    """Prompts that are continued in a cache of fixed size, one graph launch per token.

    See :class:`~mvp_mm.models.llms.running.Writing`.
    """

    def __init__(self, runner: CapturedRunner, embeds: Tensor, mask: Tensor,
                 prefix: DynamicCache | None, room: int) -> None:
        rows, length = mask.shape
        past = 0 if prefix is None else prefix.get_seq_length()
        kept, last, cache = runner.prefill(runner._padded(embeds, PROMPT_STEP, past), prefix)
        self.states, self.last_hidden = [s[:, :length] for s in kept], last[:, :length]
        total = cache.get_seq_length() + room
        self._runner = runner
        self._cache = runner.borrow(cache, rows, total + -total % TEXT_STEP)
        self._cache.take(0, cache)
        # Padding behind the prompts is never seen; new tokens stand behind it.
        self._mask = torch.zeros(rows, self._cache.size, dtype=torch.bool, device=mask.device)
        self._mask[:, :past] = True
        self._mask[:, past:past + length] = mask
        self._slot = torch.tensor([cache.get_seq_length()], device=mask.device)

    def append(self, token: Tensor, position: Tensor, seen: Tensor) -> Tensor:
        """See :class:`~mvp_mm.models.llms.running.Writing`."""
        self._mask.index_copy_(1, self._slot, seen[:, None])
        last = self._cache.step(self._runner.llm.embed(token[:, None]), self._slot, position,
                                self._mask)
        self._slot += 1
        return last

    def keep(self, rows: Tensor) -> bool:
        """Keep all rows: a graph is of one size, and a further row costs it next to nothing."""
        return False

    def __del__(self) -> None:
        if hasattr(self, '_cache'):
            self._runner.give_back(self._cache)


def _tensors_of(cache: DynamicCache) -> list[Tensor]:
    """Keys and values of a cache, layer by layer."""
    return [x for layer in cache.layers for x in (layer.keys, layer.values)]


def _cache_of(pairs: tuple[Tensor, ...], rows: int) -> DynamicCache:
    """The opposite of :func:`_tensors_of`, one row spread over several."""
    spread = [x.expand(rows, -1, -1, -1) for x in pairs]
    return DynamicCache(list(zip(spread[::2], spread[1::2], strict=True)))
