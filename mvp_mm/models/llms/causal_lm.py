# Copyright (c) mvp_mm authors. All rights reserved.
"""Any decoder-only language model of transformers."""
from __future__ import annotations

from typing import Literal

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from transformers import Cache, DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast

from mvp_mm.models.building import check_choice
from mvp_mm.models.llms.building import (
    add_lora,
    build_lm,
    check_block_mask,
    decoder_layers,
    without_mask,
)
from mvp_mm.models.llms.ending import ForcedEnding
from mvp_mm.models.llms.running import EagerRunner, run_rows
from mvp_mm.models.llms.sampling import Sampling, choose
from mvp_mm.models.llms.working_copies import WorkingCopies
from mvp_mm.models.llms.writing import Generation
from mvp_mm.models.packing import RowLayout
from mvp_mm.registry import MODELS


@MODELS.register_module()
class CausalLM(BaseModule):
    """Gives hidden states and writes text: the LLM (paper: Phi-1.5).

    Any decoder-only family of transformers with a fixed context: Phi, Llama, Qwen2, Qwen3, …

    Args:
        config: ``model_type`` of transformers and its sizes, for random weights.
        pretrained: Local folder of weights, whose sizes count, or None for random ones.
        num_layers: Number of first layers to keep, with the final norm; None keeps all.
        frozen: Keep the LLM as it is, in eval mode; gradients still pass through it.
        lora: Freeze the LLM and train adapters beside its layers, by the arguments of
            :func:`~mvp_mm.models.llms.building.add_lora` (needs peft).
        train_embeddings: Train input embeddings and output layer beside a frozen LLM or adapters:
            ``<PER>`` is new to it.
        gradient_checkpointing: Gradient checkpointing: recompute activations, keep none.
        attn_implementation: Attention of transformers (``sdpa``, ``flash_attention_2``, …).
        kept_layers: Hidden states that :meth:`forward` returns: 0 is the input embedding, -1 the
            output of the final norm.
        split_by_length: Run short and long sequences apart: sentences beside word lists would be
            mostly padding. Off under FSDP: every rank must run it the same number of times.
        shared_prefix: Run what rows about one image have in common (task text and visual tokens)
            once, behind a block mask, in place of once per row. Needs ``sdpa`` attention over the
            whole sequence.
        sequence_packing: Sequence packing: join sequences behind a block mask to ones of nearly
            the same length, so that the layers run once; for ``sdpa`` attention likewise.
        bf16_weights: Train the layers in bfloat16 throughout, on copies of their weights made once
            per step (:class:`~mvp_mm.models.llms.working_copies.WorkingCopies`), in place of a
            cast per layer under autocast. The parameters stay float32.
        sampling: Settings of :class:`~mvp_mm.models.llms.sampling.Sampling`; None is greedy.
        loss_average: What the language loss is averaged over in the global batch: ``'tokens'``
            alike, ``'instructions'`` (each the mean of its tokens) or ``'images'`` (each the mean
            of its instructions). In the first two, images with many instructions weigh more.
    """

    def __init__(self, config: dict | None = None, pretrained: str | None = None,
                 num_layers: int | None = None, frozen: bool = False, lora: dict | None = None,
                 train_embeddings: bool = False, gradient_checkpointing: bool = False,
                 attn_implementation: str = 'sdpa', kept_layers: tuple[int, ...] = (-1,),
                 split_by_length: bool = True, shared_prefix: bool = False,
                 sequence_packing: bool = False, bf16_weights: bool = False,
                 sampling: dict | None = None,
                 loss_average: Literal['tokens', 'instructions', 'images'] = 'tokens') -> None:
        super().__init__()
        check_choice('llm.loss_average', loss_average, ('tokens', 'instructions', 'images'))
        self.loss_average = loss_average
        self.lm = build_lm(config, pretrained, attn_implementation, num_layers)
        self.pretrained = pretrained
        self.hidden_size = self.lm.config.hidden_size
        self.max_length = self.lm.config.max_position_embeddings
        self.kept_layers = tuple(kept_layers)
        self.shared_prefix = shared_prefix
        self.sequence_packing = sequence_packing
        self.split_by_length = split_by_length
        for setting in ('shared_prefix', 'sequence_packing'):
            if getattr(self, setting):
                check_block_mask(self.lm.config, f'llm.{setting}')
        # Another one may take its place: captured graphs, a cache of fixed size.
        self.runner = EagerRunner(self)
        self.sampling = None if sampling is None else Sampling(**sampling)
        self.frozen = frozen
        self._choose_trained(lora, train_embeddings)
        self.copies = WorkingCopies(self.lm) if bf16_weights else None
        if gradient_checkpointing:
            self.lm.gradient_checkpointing_enable({'use_reentrant': False})

    def _choose_trained(self, lora: dict | None, train_embeddings: bool) -> None:
        if self.frozen and lora is not None:
            raise ValueError('llm.frozen and llm.lora: adapters train, choose one')
        if train_embeddings and not self.frozen and lora is None:
            raise ValueError('llm.train_embeddings needs frozen or lora; all trains without')
        if self.frozen:
            self.requires_grad_(False)
        if lora is not None:
            add_lora(self.lm, **lora)
        if train_embeddings:
            self.lm.get_input_embeddings().requires_grad_(True)
            self.lm.get_output_embeddings().requires_grad_(True)

    def train(self, mode: bool = True) -> CausalLM:
        """Set the mode; a frozen LLM stays in eval mode."""
        if self.copies is not None:
            self.copies.drop()
        return super().train(mode and not self.frozen)

    @property
    def in_one_pass(self) -> bool:
        """Whether the layers run once per forward pass, whatever the lengths."""
        return self.sequence_packing or not self.split_by_length

    @property
    def vocab_size(self) -> int:
        """Tokens that are embedded."""
        return self.lm.config.vocab_size

    def init_weights(self) -> None:
        """Keep the weights: transformers has drawn or read them, peft those of adapters.

        transformers would draw again what it did not make itself.
        """

    @torch.no_grad()
    def start_at_mean(self, token: int, vocabulary: int) -> None:
        """Set a new token's input embedding and output row to the means of the others.

        Args:
            token: Its id.
            vocabulary: Ids below it are the tokenizer's; the LLM may have rows for more.
        """
        others = torch.arange(vocabulary) != token
        head = self.lm.get_output_embeddings()
        values = [self.lm.get_input_embeddings().weight, head.weight]
        for value in values if head.bias is None else [*values, head.bias]:
            value[token] = value[:vocabulary][others].mean(0)

    def shard_units(self) -> list[nn.Module]:
        """FSDP wrap units: the transformer layers."""
        if not self.in_one_pass:
            raise ValueError(
                'A sharded LLM needs llm.split_by_length=False or sequence_packing=True: ranks '
                'that run it a different number of times would wait for each other for ever')
        if self.copies is not None:
            raise ValueError('llm.bf16_weights: a sharded LLM is gathered in bfloat16 already, '
                             'and has no whole weights to copy; leave it out')
        return list(decoder_layers(self.lm))

    def embed(self, ids: Tensor) -> Tensor:
        """Embed token ids (R, T): (R, T, D)."""
        return self.lm.get_input_embeddings()(ids)

    def forward(self, embeds: Tensor, attention_mask: Tensor,
                layout: RowLayout | None = None,
                prefix: DynamicCache | None = None) -> list[Tensor]:
        """Compute the hidden states of right-padded sequences.

        Behind a causal mask no position sees the padding on its right, so attention needs no
        padding mask and a flash kernel can run; rows behind a shared prefix need a block mask.

        Args:
            embeds: (R, T, D) input embeddings.
            attention_mask: (R, T) bool, False at padding.
            layout: Lengths of the rows and what they share; without it the device is asked for
                the lengths, and they share nothing.
            prefix: From :meth:`read_prefix`: what precedes each of the sequences.

        Returns:
            One (R, T, D) tensor for each of ``kept_layers``; without meaning at padding.
        """
        if prefix is not None:
            return self.runner.read_behind(embeds, prefix)
        if layout is None:
            layout = RowLayout.separate(attention_mask.sum(1).tolist())
        elif not self.shared_prefix:
            layout = RowLayout.separate(layout.lengths)
        if self.copies is None or not self.training or not torch.is_grad_enabled():
            return run_rows(self, embeds, layout)
        with self.copies.in_use(embeds.device.type):
            found = run_rows(self, embeds.to(self.copies.dtype), layout)
            return [states.to(embeds.dtype) for states in found]

    def logits(self, hidden: Tensor) -> Tensor:
        """Compute the vocabulary logits (…, vocabulary) of last-layer states (…, D)."""
        return self.lm.get_output_embeddings()(hidden)

    def read_prefix(self, embeds: Tensor) -> DynamicCache:
        """Compute the keys and values of one sequence (1, T, D), to be continued many times."""
        cache = DynamicCache(config=self.lm.config)
        self.run(embeds, cache=cache)
        return cache

    @torch.no_grad()
    def generate(self, embeds: Tensor, attention_mask: Tensor, endings: list[list[int]],
                 max_new_tokens: int, eos_id: int | None = None,
                 prompts: list[list[int]] | None = None, vocabulary: int | None = None,
                 prefix: DynamicCache | None = None) -> Generation:
        """Write responses, with a KV cache.

        Rows stop on their own with the last token of their ending. Where a row reaches the limit
        or ends its text before, the whole ending is forced
        (:class:`~mvp_mm.models.llms.ending.ForcedEnding`), so that there always is a ``<PER>``
        state, read behind the words that precede it in training. No row depends on those beside
        it. Rows that have ended leave the batch, where the runner's texts can shrink.

        Args:
            embeds: (R, T, D) embeddings of prompts, padded on the right or on the left.
            attention_mask: (R, T) bool.
            endings: Token ids that each row ends with: "The perception result is ``<PER>``", or
                end of text.
            max_new_tokens: Limit, the ending included; the LLM's context is another.
            eos_id: End of text, which stops a row before its ending.
            prompts: Token ids of each prompt; needed for ``sampling``, which draws by them.
            vocabulary: Write ids below it alone: the tokenizer's, where the LLM embeds more.
            prefix: From :meth:`read_prefix`: what precedes each of the prompts.

        Raises:
            ValueError: If there is no room for an ending.
        """
        past = 0 if prefix is None else prefix.get_seq_length()
        length = past + attention_mask.sum(1)
        limit = self._limit(int(length.max()), length, max_new_tokens, max(map(len, endings)))
        ending = ForcedEnding(endings, limit, eos_id)
        noise = self._noise(prompts, max_new_tokens, embeds.device)
        text = self.runner.start(embeds, attention_mask, prefix, max_new_tokens)
        # Zero at padding: on the left, where a position sees nothing, states are no numbers.
        states = [s.masked_fill(~attention_mask[..., None], 0.0) for s in text.states]
        rows = torch.arange(embeds.shape[0], device=embeds.device)
        final = (attention_mask * torch.arange(embeds.shape[1], device=embeds.device)).argmax(1)
        last = text.last_hidden[rows, final]
        summary = torch.zeros_like(last)
        tokens = rows.new_full((len(rows), max_new_tokens), -1)
        forced, done = torch.zeros_like(rows, dtype=torch.bool).repeat(2, 1)
        for step in range(max_new_tokens):
            token = choose(self.logits(last)[:, :vocabulary], self.sampling,
                           None if noise is None else noise[rows, step])
            token = torch.where(done, ending.last, ending.next_token(step, token, done))
            tokens[rows, step] = token.masked_fill(done, -1)
            last = text.append(token, length[rows] + step, ~done)
            ends = (token == ending.last) & ~done
            summary[rows] = torch.where(ends[:, None], last, summary[rows])
            forced[rows] = ending.forced
            done = done | ends
            left = (~done).nonzero()[:, 0]
            if not len(left):
                break
            if len(left) < len(rows) and text.keep(left):
                rows, last, done = rows[left], last[left], done[left]
                ending.keep(left)
        return Generation(tokens[:, :step + 1], states, summary, forced)

    def _limit(self, longest: int, length: Tensor, max_new_tokens: int, ending: int) -> Tensor:
        """(R,) tokens that each row may write."""
        if max_new_tokens < ending:
            raise ValueError(f'A response of up to {max_new_tokens} tokens has no room for its '
                             f'ending of {ending}')
        if longest + ending > self.max_length:
            raise ValueError(f'A prompt of {longest} tokens leaves no room for a response of '
                             f"{ending} in the LLM's context of {self.max_length}")
        return (self.max_length - length).clamp(max=max_new_tokens)

    def _noise(self, prompts: list[list[int]] | None, count: int,
               device: torch.device) -> Tensor | None:
        """(R, count) random numbers, or None where nothing is drawn."""
        if self.sampling is None:
            return None
        if prompts is None:
            raise ValueError('Sampling needs the token ids of the prompts')
        return self.sampling.noise(prompts, count).to(device)

    def run(self, embeds: Tensor, mask: Tensor | None = None, cache: Cache | None = None,
            positions: Tensor | None = None,
            decoder: nn.Module | None = None) -> BaseModelOutputWithPast:
        """Run the layers, or a view of them, once over embeddings (R, T, D), as transformers."""
        if mask is not None and mask.ndim == 2:
            mask = mask.long()
        return (self.lm.get_decoder() if decoder is None else decoder)(
            inputs_embeds=embeds, attention_mask=mask,
            position_ids=positions, past_key_values=cache, use_cache=cache is not None,
            output_hidden_states=self.kept_layers != (-1,))

    def run_causal(self, embeds: Tensor, cache: Cache | None = None) -> BaseModelOutputWithPast:
        """Run whole sequences from their start, without a mask where attention needs none."""
        return self.run(embeds, cache=cache, decoder=without_mask(
            self.lm.get_decoder(), recorded=self.kept_layers != (-1,)))

    def keep(self, out: BaseModelOutputWithPast) -> list[Tensor]:
        """Select the states of ``kept_layers`` from what :meth:`run` gives."""
        if self.kept_layers == (-1,):
            return [out.last_hidden_state]
        # The final norm's output is taken by name: architectures differ in what they list last.
        states = out.hidden_states
        return [out.last_hidden_state if i == -1 else states[i] for i in self.kept_layers]
