# Copyright (c) mvp_mm authors. All rights reserved.
"""What the model reads from and writes with the LLM."""
from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mvp_mm.models.llms import CausalLM
from mvp_mm.models.losses.weighted_sum import WeightedSum
from mvp_mm.models.state import InstructionBatch


@dataclass
class LanguageOutput:
    """Result of one run of the LLM over R instructions.

    Attributes:
        text: (R, K, D) mean of the output states over each phrase's tokens.
        summary: (R, D) state of ``<PER>``.
        captions: Written responses as token ids, one 1-D tensor a row; empty in training.
    """

    text: Tensor
    summary: Tensor
    captions: list[Tensor]


def insert_visual_tokens(embeds: Tensor, visual: Tensor, batch: InstructionBatch) -> Tensor:
    """Put each row's visual tokens at its placeholder.

    Args:
        embeds: (R, T, D) token embeddings.
        visual: (B, V, D).
        batch: The instructions.
    """
    offset = torch.arange(embeds.shape[1], device=embeds.device) - batch.image_start[:, None]
    inside = (offset >= 0) & (offset < visual.shape[1]) & (batch.image_start >= 0)[:, None]
    per_row = visual[batch.image_index]
    placed = per_row.gather(
        1, offset.clamp(0, visual.shape[1] - 1)[..., None].expand_as(embeds))
    return torch.where(inside[..., None], placed.to(embeds.dtype), embeds)


def pool_phrases(states: list[Tensor], phrase_index: Tensor, num_phrases: int) -> Tensor:
    """Average-pool every phrase by one scatter (paper section 3.2).

    Args:
        states: Kept hidden states, each (R, T, D). Several are normalised and averaged.
        phrase_index: (R, T) int64, -1 outside phrases.
        num_phrases: K.

    Returns:
        (R, K, D); zeros where a row has no such phrase.
    """
    if len(states) == 1:
        merged = states[0]
    else:
        merged = torch.stack([F.layer_norm(s, s.shape[-1:]) for s in states]).mean(0)
    column = torch.where(phrase_index < 0, num_phrases, phrase_index)
    onehot = F.one_hot(column, num_phrases + 1)[..., :num_phrases].to(merged.dtype)
    total = onehot.transpose(1, 2) @ merged
    return total / onehot.sum(1).clamp(min=1)[..., None]


def language_loss(llm: CausalLM, hidden: Tensor, labels: Tensor) -> WeightedSum:
    """Next-token cross-entropy at response positions only.

    Args:
        llm: Gives the vocabulary logits, for the supervised positions alone.
        hidden: (R, T, D) last-layer states.
        labels: (R, T) int64, the token *at* each position, -100 where it is not supervised.

    Returns:
        The sum, and the number of supervised tokens.
    """
    wanted = F.pad(labels[:, 1:], (0, 1), value=-100).flatten()
    keep = wanted != -100
    # One list of places instead of two masks: the host waits for the device once.
    at = keep.nonzero()[:, 0]
    logits = llm.logits(hidden.flatten(0, 1).index_select(0, at)).float()
    loss = F.cross_entropy(logits, wanted.index_select(0, at), reduction='sum')
    return WeightedSum(loss, keep.sum())


def append_tokens(batch: InstructionBatch, tokens: list[int]) -> InstructionBatch:
    """Write the same tokens, of which the last is ``<PER>``, behind every right-padded row."""
    rows, length = batch.ids.shape
    n, device = len(tokens), batch.ids.device
    at = batch.mask.sum(1)[:, None] + torch.arange(n, device=device)
    grown = {}
    for name, fill in (('ids', 0), ('mask', False), ('phrase_index', -1), ('labels', -100)):
        value = getattr(batch, name)
        grown[name] = torch.cat([value, value.new_full((rows, n), fill)], 1)
    grown['ids'].scatter_(1, at, torch.tensor(tokens, device=device).expand(rows, -1))
    grown['mask'].scatter_(1, at, True)
    return replace(batch, **grown, per_position=at[:, -1])
