# Copyright (c) mvp_mm authors. All rights reserved.
"""Any decoder-only language model of transformers."""
from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

from mvp_mm.registry import MODELS


@dataclass
class Generation:
    """What the LLM wrote.

    Attributes:
        tokens: (R, n) int64 generated ids, the last token included, padded with -1.
        prompt_states: Hidden states of the prompt, one (R, T, D) tensor a kept layer.
        summary: (R, D) hidden state of the last token.
    """

    tokens: Tensor
    prompt_states: list[Tensor]
    summary: Tensor


def length_groups(lengths: list[int], least_saving: float = 0.1) -> list[tuple[list[int], int]]:
    """Split sequences in two by length where that saves enough padding.

    Args:
        lengths: Tokens of each of R sequences.
        least_saving: Share of the padded tokens that a split must save.

    Returns:
        One or two groups: row indices, and the length of the longest row in it.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    ranked = [lengths[r] for r in order]
    whole = len(ranked) * ranked[-1]
    costs = [i * ranked[i - 1] + (len(ranked) - i) * ranked[-1] for i in range(1, len(ranked))]
    best = min(range(len(costs)), key=costs.__getitem__, default=0)
    if not costs or costs[best] > (1 - least_saving) * whole:
        return [(order, ranked[-1])]
    cut = best + 1
    return [(order[:cut], ranked[cut - 1]), (order[cut:], ranked[-1])]


@MODELS.register_module()
class CausalLM(BaseModule):
    """The LLM (paper: Phi-1.5) as a source of hidden states and of text.

    Args:
        config: ``model_type`` of transformers and its sizes; ignored when ``pretrained`` is given.
        pretrained: Local folder of weights, or None for random ones.
        frozen: Whether the LLM is kept as it is.
        gradient_checkpointing: Recompute activations in the backward pass.
        attn_implementation: Attention of transformers (``sdpa``, ``flash_attention_2``, …).
        kept_layers: Hidden states that :meth:`forward` returns: 0 is the input embedding, -1 the
            output of the final norm.
    """

    def __init__(self, config: dict | None = None, pretrained: str | None = None,
                 frozen: bool = False, gradient_checkpointing: bool = False,
                 attn_implementation: str = 'sdpa', kept_layers: tuple[int, ...] = (-1,)) -> None:
        super().__init__()
        if (config is None) == (pretrained is None):
            raise ValueError('CausalLM needs exactly one of config and pretrained')
        if pretrained is not None:
            self.lm = AutoModelForCausalLM.from_pretrained(
                pretrained, local_files_only=True, attn_implementation=attn_implementation)
        else:
            sizes = dict(config)
            hf_config = AutoConfig.for_model(sizes.pop('model_type'), **sizes)
            self.lm = AutoModelForCausalLM.from_config(
                hf_config, attn_implementation=attn_implementation)
        self.hidden_size = self.lm.config.hidden_size
        self.vocab_size = self.lm.config.vocab_size
        self.max_length = self.lm.config.max_position_embeddings
        self.kept_layers = tuple(kept_layers)
        self.frozen = frozen
        if gradient_checkpointing:
            self.lm.gradient_checkpointing_enable({'use_reentrant': False})
        if frozen:
            self.requires_grad_(False)

    def embed(self, ids: Tensor) -> Tensor:
        """Token embeddings (R, T, D) of ids (R, T)."""
        return self.lm.get_input_embeddings()(ids)

    def forward(self, embeds: Tensor, attention_mask: Tensor) -> list[Tensor]:
        """Hidden states of right-padded sequences.

        Args:
            embeds: (R, T, D) input embeddings.
            attention_mask: (R, T) bool, False at padding.

        Short and long sequences run apart: sentences beside word lists would be padding for the
        most part.

        Returns:
            One (R, T, D) tensor for each of ``kept_layers``; without meaning at padding.
        """
        total = attention_mask.shape[1]
        groups = length_groups(attention_mask.sum(1).tolist())
        parts = []
        for group, length in groups:
            index = torch.tensor(group, device=embeds.device)
            out = self._run(embeds[index, :length], attention_mask[index, :length], cache=None)
            parts.append([F.pad(s, (0, 0, 0, total - length)) for s in self._keep(out)])
        order = torch.tensor([r for group, _ in groups for r in group], device=embeds.device)
        back = order.argsort()
        return [torch.cat(layer)[back] for layer in zip(*parts, strict=True)]

    def logits(self, hidden: Tensor) -> Tensor:
        """Vocabulary logits (…, vocabulary) of last-layer states (…, D)."""
        return self.lm.get_output_embeddings()(hidden)

    @torch.no_grad()
    def generate(self, embeds: Tensor, attention_mask: Tensor, end: Tensor,
                 max_new_tokens: int) -> Generation:
        """Greedily write responses, with a KV cache.

        Rows stop on their own; one that has not written its last token at the limit gets it
        forced, so that there always is a ``<PER>`` state.

        Args:
            embeds: (R, T, D) embeddings of right-padded prompts.
            attention_mask: (R, T) bool.
            end: (R,) int64, the token that ends each row: ``<PER>``, or end of text.
            max_new_tokens: Limit, the last token included.
        """
        cache = DynamicCache(config=self.lm.config)
        out = self._run(embeds, attention_mask, cache)
        states = self._keep(out)
        rows = torch.arange(embeds.shape[0], device=embeds.device)
        length = attention_mask.sum(1)
        last = out.last_hidden_state[rows, length - 1]
        summary = torch.zeros_like(last)
        done = torch.zeros_like(length, dtype=torch.bool)
        mask, tokens = attention_mask, []
        for step in range(max_new_tokens):
            token = self.logits(last).argmax(-1)
            if step == max_new_tokens - 1:
                token = end
            token = torch.where(done, end, token)
            tokens.append(token.masked_fill(done, -1))
            mask = torch.cat([mask, ~done[:, None]], dim=1)
            out = self._run(self.embed(token[:, None]), mask, cache, (length + step)[:, None])
            last = out.last_hidden_state[:, 0]
            ends = (token == end) & ~done
            summary = torch.where(ends[:, None], last, summary)
            done = done | ends
            if bool(done.all()):
                break
        return Generation(torch.stack(tokens, 1), states, summary)

    def _run(self, embeds: Tensor, mask: Tensor, cache: DynamicCache | None,
             positions: Tensor | None = None):
        return self.lm.get_decoder()(
            inputs_embeds=embeds, attention_mask=mask.long(), position_ids=positions,
            past_key_values=cache, use_cache=cache is not None,
            output_hidden_states=self.kept_layers != (-1,))

    def _keep(self, out) -> list[Tensor]:
        if self.kept_layers == (-1,):
            return [out.last_hidden_state]
        # The final norm's output is taken by name: architectures differ in what they list last.
        states = out.hidden_states
        return [out.last_hidden_state if i == -1 else states[i] for i in self.kept_layers]
