# Copyright (c) mvp_mm authors. All rights reserved.
"""Keeps what the LLM has computed of an image's prompt prefix, for further questions about it."""
from __future__ import annotations

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from mvp_mm.models.llms import CausalLM
from mvp_mm.models.state import InstructionBatch


class ImagePrefixes:
    """Holds keys and values of ``[task text][visual tokens]`` of one image, per task text.

    A prompt begins with its task text and the image; behind a causal mask, what follows changes
    nothing of it. Keys and values are held on the LLM's device: of Phi-1.5 about 230 MB per task
    text in float32, for 576 visual tokens.

    Attributes:
        kept: Keys and values by the token ids of the prefix.
    """

    def __init__(self) -> None:
        self.kept: dict[tuple[int, ...], DynamicCache] = {}

    def split(self, llm: CausalLM, embeds: Tensor, batch: InstructionBatch,
              num_visual: int) -> tuple[DynamicCache | None, Tensor, InstructionBatch]:
        """Cut the prefix off R sequences about one image.

        Sequences that do not share one, and LLMs that do not keep every position (sliding
        windows, recurrent layers), come back whole.

        Args:
            llm: Computes a prefix that is not kept yet.
            embeds: (R, T, D) input embeddings.
            batch: R instructions.
            num_visual: Visual tokens V of the image.

        Returns:
            Keys and values of the prefix of one row, or None; embeddings and instructions behind
            it.
        """
        length = _prefix_length(batch, num_visual)
        if not length:
            return None, embeds, batch
        key = tuple(batch.ids[0, :length].tolist())
        if key not in self.kept:
            self.kept[key] = llm.read_prefix(embeds[:1, :length])
        cache = self.kept[key]
        if not all(type(layer) is DynamicLayer for layer in cache.layers):
            return None, embeds, batch
        return cache, embeds[:, length:], batch.behind(length)


def _prefix_length(batch: InstructionBatch, num_visual: int) -> int:
    """Tokens up to the end of the image, where all rows begin with the same; 0 where not."""
    start = int(batch.image_start[0])
    end = start + num_visual
    same = (start >= 0 and bool((batch.image_start == start).all())
            and bool((batch.image_index == batch.image_index[0]).all())
            and bool((batch.ids[:, :end] == batch.ids[0, :end]).all())
            and bool((batch.phrase_index[:, :end] < 0).all()))
    # Something must be left to ask.
    return end if same and int(batch.mask.sum(1).min()) > end else 0
