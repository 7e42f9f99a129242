# Copyright (c) mvp_mm authors. All rights reserved.
"""Connects the LLM: visual tokens in, pooled phrases and the language loss out."""
from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mvp_mm.models.llms import CausalLM
from mvp_mm.models.losses.weighted_sum import ImageShares, WeightedSum
from mvp_mm.models.state import InstructionBatch
from mvp_mm.tasks.prompts import RESULT
from mvp_mm.tokenization import InstructionTokenizer


@dataclass
class LanguageOutput:
    """What one run of the LLM over R instructions gives.

    Attributes:
        text: (R, K, D) mean of the output states over each phrase's tokens.
        summary: (R, D) state of ``<PER>``.
        captions: Written responses as token ids, one 1-D tensor per row; empty in training.
        forced: Rows whose response was cut and its ending forced; empty in training.
    """

    text: Tensor
    summary: Tensor
    captions: list[Tensor] = field(default_factory=list)
    forced: list[bool] = field(default_factory=list)


def insert_visual_tokens(embeds: Tensor, visual: Tensor, batch: InstructionBatch) -> Tensor:
    """Put each row's visual tokens in the place of its image.

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
    onehot = phrase_index[..., None] == torch.arange(num_phrases, device=phrase_index.device)
    onehot = onehot.to(merged.dtype)
    total = onehot.transpose(1, 2) @ merged
    return total / onehot.sum(1).clamp(min=1)[..., None]


def language_loss(llm: CausalLM, hidden: Tensor, labels: Tensor,
                  shares: ImageShares, supervised: np.ndarray | None = None) -> WeightedSum:
    """Compute the next-token cross-entropy at response positions (paper section 3.1, L_LLM).

    Args:
        llm: Gives the vocabulary logits, for the supervised positions alone, and says what the
            loss is averaged over.
        hidden: (R, T, D) last-layer states.
        labels: (R, T) int64, the token *at* each position, -100 where it is not supervised.
        shares: How much each row counts where the average is over images.
        supervised: (n,) int64 places among (R · T) whose next token is supervised, as the host
            knows them; without them, the device is waited for.

    Returns:
        The sum, and what it is over.
    """
    wanted = F.pad(labels[:, 1:], (0, 1), value=-100)
    keep = wanted != -100
    if supervised is None:
        at = keep.flatten().nonzero()[:, 0]
    else:
        at = torch.from_numpy(supervised).to(hidden.device, non_blocking=True)
    logits = llm.logits(hidden.flatten(0, 1).index_select(0, at)).float()
    loss = F.cross_entropy(logits, wanted.flatten().index_select(0, at), reduction='none')
    if llm.loss_average == 'tokens':
        return WeightedSum(loss.sum(), keep.sum())
    tokens = keep.sum(1)
    rows = loss.new_zeros(len(labels)).index_add(0, at // labels.shape[1], loss)
    rows = rows / tokens.clamp(min=1)
    if llm.loss_average == 'instructions':
        return WeightedSum(rows.sum(), (tokens > 0).sum())
    return WeightedSum((rows * shares.weight).sum(), shares.num_images)


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
    return replace(batch, **grown, per_position=at[:, -1],
                   host=batch.host and batch.host.extended(n))


def prompt_ids(batch: InstructionBatch) -> list[list[int]]:
    """Give the token ids of each right-padded row."""
    lengths = batch.mask.sum(1).tolist()
    return [ids[:n] for ids, n in zip(batch.ids.tolist(), lengths, strict=True)]


def check_tokenizer(tokenizer: InstructionTokenizer, llm: CausalLM,
                    max_response_tokens: int) -> None:
    """Compare tokenizer, LLM and response limit.

    Raises:
        ValueError: If the tokenizer has tokens that the LLM does not embed, knows less than half
            of those that it does, or makes sequences longer than the LLM's context, or if the
            limit has no room for what every response ends with.
    """
    least = len(tokenizer.encode(f' {RESULT}')) + 1
    if max_response_tokens < least:
        raise ValueError(f'max_response_tokens={max_response_tokens} has no room for "{RESULT} '
                         f'<PER>", which takes {least} tokens')
    known, embedded = tokenizer.vocab_size, llm.vocab_size
    if known > embedded:
        raise ValueError(f'The tokenizer has {known} tokens, the LLM embeds {embedded}')
    if 2 * known < embedded:
        raise ValueError(f'The tokenizer has {known} tokens, the LLM embeds {embedded}: it '
                         'must be the tokenizer of another LLM')
    if tokenizer.max_length > llm.max_length:
        raise ValueError(f'tokenizer.max_length={tokenizer.max_length} is more than the '
                         f"LLM's context of {llm.max_length}")


def check_room(batch: InstructionBatch, room: int, llm: CausalLM) -> None:
    """Refuse prompts that leave no room for a response of ``room`` tokens.

    Raises:
        ValueError: Naming both lengths and the LLM's.
    """
    if batch.ids.shape[1] + room > llm.max_length:
        raise ValueError(
            f'A question of {batch.ids.shape[1]} tokens and a response of up to {room} exceed the '
            f"LLM's {llm.max_length} positions; give the pipeline a response_room")
