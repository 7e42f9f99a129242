# Copyright (c) mvp_mm authors. All rights reserved.
"""The MVP-LM model (arXiv 2507.16213)."""
from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from transformers import DynamicCache

from mvp_mm.models.building import train_only
from mvp_mm.models.connectors import build_connector, connect
from mvp_mm.models.language import (
    LanguageOutput,
    append_tokens,
    check_room,
    check_tokenizer,
    insert_visual_tokens,
    language_loss,
    pool_phrases,
    prompt_ids,
)
from mvp_mm.models.llms.building import make_room
from mvp_mm.models.losses import ImageShares, Targets, read_scalars, reduce_over_ranks
from mvp_mm.models.state import ImageState, InstructionBatch, image_extent
from mvp_mm.models.vocabulary_parts import LLMRows
from mvp_mm.registry import MODELS, TOKENIZERS
from mvp_mm.structures import Answering, PerceptionDataSample
from mvp_mm.tasks.prompts import RESULT, caption_of


@MODELS.register_module()
class MVPLM(BaseModel):
    """Detects, segments and grounds what words or sentences name, with one visual LLM.

    ::

        image ─► encoder ─┬─► pixel decoder ─► memory (B, S, C), mask features (B, C, H/s, W/s)
                          └─► connector ─► visual tokens (B, V, D)            = ImageState
        [task text][visual tokens][instruction][response … <PER>] ─► LLM
             phrases, mean-pooled ─► text (R, K, C)      <PER> state ─► base queries (R, N, C)
             + most similar memory tokens, boxes ─► queries (R, Q, C) ─► decoder × L
             ─► similarity (R, Q, K + 1) · boxes (R, Q, 4) · masks (R, Q, H/s, W/s)

    :meth:`encode` runs once per image; :meth:`forward_llm` (or, at test time,
    :meth:`generate_then_read`) and the perception head run once per instruction. R instructions
    are about B images.

    Args:
        encoder: Config of the image encoder.
        connector: Config; ``in_channels`` and ``out_channels`` come from encoder and LLM.
        llm: Config of the LLM.
        tokenizer: Config of the instruction tokenizer, the same that the pipeline uses.
        pixel_decoder: Config; ``in_channels`` come from the encoder.
        perception: Config of the perception head.
        embed_dims: Width C of pixel decoder and perception head.
        trainable: Top-level parts that train; None trains all that do not freeze themselves.
        thinking: Write the response before ``<PER>`` at test time.
        max_response_tokens: Limit of the written response, "The perception result is ``<PER>``"
            included.
        answering: Options of decoding, see :class:`~mvp_mm.structures.Answering`.
        data_preprocessor: Config.
        init_cfg: Initialisation by mmengine.
    """

    def __init__(self, encoder: dict, connector: dict, llm: dict, tokenizer: dict,
                 pixel_decoder: dict, perception: dict, embed_dims: int,
                 trainable: list[str] | None = None, thinking: bool = True,
                 max_response_tokens: int = 128, answering: dict | None = None,
                 data_preprocessor: dict | None = None, init_cfg: dict | None = None) -> None:
        preprocessor = data_preprocessor and MODELS.build(data_preprocessor)
        super().__init__(data_preprocessor=preprocessor, init_cfg=init_cfg)
        self.encoder = MODELS.build(encoder)
        self.llm = MODELS.build(llm)
        self.connector = build_connector(
            connector, self.encoder.out_channels, self.llm.hidden_size)
        self.pixel_decoder = MODELS.build(dict(
            in_channels=self.encoder.out_channels, embed_dims=embed_dims, **pixel_decoder))
        self.perception = MODELS.build(dict(
            llm_dims=self.llm.hidden_size, embed_dims=embed_dims, **perception))
        self.tokenizer = TOKENIZERS.build(tokenizer)
        self.thinking = thinking
        self.max_response_tokens = max_response_tokens
        if self.llm.pretrained and self.tokenizer.per_is_new:
            self.make_room()
            self.llm.start_at_mean(self.per_id, self.tokenizer.vocab_size)
        self.answering = Answering.from_config(answering)
        if trainable is not None:
            train_only(self, trainable)
        self.perception_trains = any(p.requires_grad for p in self.perception.parameters())

    @cached_property
    def per_id(self) -> int:
        """Id of ``<PER>``; the tokenizer's files are read and checked on first use."""
        self.check_tokenizer()
        return self.tokenizer.per_id

    @cached_property
    def ending(self) -> list[int]:
        """Token ids that every perceiving response ends with: its result and ``<PER>``."""
        return [*self.tokenizer.encode(f' {RESULT}'), self.per_id]

    def make_room(self) -> None:
        """Give ``<PER>`` a row of an LLM whose folder has none left, before weights are loaded."""
        if self.tokenizer.per_is_new:
            make_room(self.llm.lm, self.tokenizer.vocab_size)

    def check_tokenizer(self) -> None:
        """Compare tokenizer, LLM and response limit.

        Raises:
            ValueError: If they do not fit; see :func:`~mvp_mm.models.language.check_tokenizer`.
        """
        check_tokenizer(self.tokenizer, self.llm, self.max_response_tokens)

    def shard_units(self) -> list[nn.Module]:
        """FSDP wrap units, outermost excluded."""
        return [self.encoder, *self.llm.shard_units()]

    def forward(self, inputs: Tensor, data_samples: list[PerceptionDataSample],
                mode: str = 'tensor') -> dict[str, Tensor] | list[PerceptionDataSample] | tuple:
        """Run the model.

        Args:
            inputs: (B, 3, H, W) normalised images.
            data_samples: R samples with tokenised instructions and ``image_index``.
            mode: ``'loss'``, ``'predict'`` or ``'tensor'``.

        Returns:
            A dict of losses, the samples with predictions, or the raw tensors of
            :meth:`PerceptionHead.predict` for teacher-forced responses.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        if mode == 'tensor':
            batch = InstructionBatch.collate(data_samples, inputs.device, self.per_id)
            state = self.encode(inputs, data_samples)
            _, language = self.forward_llm(state, batch)
            return self.perception.predict(state, batch, language.text, language.summary)
        raise ValueError(f'mode must be loss, predict or tensor, got {mode!r}')

    def encode(self, images: Tensor, data_samples: list[PerceptionDataSample],
               perceive: bool = True) -> ImageState:
        """Compute what depends on the images alone, once per image.

        Args:
            images: (B, 3, H, W).
            data_samples: Samples that tell how much of the canvas each image fills.
            perceive: Also make memory and mask features, not the visual tokens alone.
        """
        features = self.encoder(images)
        visual = connect(self.connector, features)
        if visual.shape[1] != self.tokenizer.num_visual_tokens:
            raise ValueError(
                f'Images of {tuple(images.shape[-2:])} give {visual.shape[1]} visual tokens, '
                f'tokenizer.num_visual_tokens is {self.tokenizer.num_visual_tokens}')
        if not perceive:
            # A training encoder needs a gradient in every parameter, those of unused maps too.
            return ImageState(visual + sum(f.sum() for f in features[:-1]) * 0)
        return ImageState(
            visual, **self.pixel_decoder(features, image_extent(images, data_samples)))

    def forward_llm(self, state: ImageState,
                    batch: InstructionBatch) -> tuple[Tensor, LanguageOutput]:
        """Run the LLM once over complete sequences (teacher forcing).

        Returns:
            (R, T, D) last-layer states, and what the perception head needs of them.
        """
        prefix, embeds, batch = self._behind_image(state, batch)
        states = self.llm(embeds, batch.mask, batch.host and batch.host.layout, prefix)
        text = self.pool_text(states, batch)
        every_row = torch.arange(len(batch.ids), device=batch.ids.device)
        summary = states[-1][every_row, batch.per_position]
        return states[-1], LanguageOutput(text, summary)

    def embed_inputs(self, state: ImageState, batch: InstructionBatch) -> Tensor:
        """Make the LLM's input (R, T, D) of token embeddings and visual tokens."""
        return insert_visual_tokens(self.llm.embed(batch.ids), state.visual_tokens, batch)

    def _behind_image(self, state: ImageState, batch: InstructionBatch) -> tuple[
            DynamicCache | None, Tensor, InstructionBatch]:
        """Make the LLM's input; the image's prefix is cut off where the state keeps it."""
        embeds = self.embed_inputs(state, batch)
        if state.prefixes is None:
            return None, embeds, batch
        return state.prefixes.split(self.llm, embeds, batch, state.visual_tokens.shape[1])

    def pool_text(self, states: list[Tensor], batch: InstructionBatch) -> Tensor:
        """Average-pool the phrases (R, K, D) from kept states (R, T, D)."""
        return pool_phrases(states, batch.phrase_index, batch.phrase_mask.shape[1])

    @torch.no_grad()
    def generate_then_read(self, state: ImageState, batch: InstructionBatch) -> LanguageOutput:
        """Write the responses up to ``<PER>``, then read prompt and summary states."""
        endings = [self.ending if needed else [self.tokenizer.eos_id]
                   for needed in batch.needs_decoder.tolist()]
        prompts = prompt_ids(batch)
        prefix, embeds, batch = self._behind_image(state, batch)
        written = self.llm.generate(
            embeds, batch.mask, endings, self.max_response_tokens, self.tokenizer.eos_id, prompts,
            self.tokenizer.vocab_size, prefix)
        text = self.pool_text(written.prompt_states, batch)
        return LanguageOutput(text, written.summary, [t[t >= 0] for t in written.tokens],
                              written.forced.tolist())

    def loss(self, inputs: Tensor, data_samples: list[PerceptionDataSample]) -> dict[str, Tensor]:
        """Compute the losses of a mixed batch; see :class:`PerceptionCriterion` for their names."""
        batch = InstructionBatch.collate(data_samples, inputs.device, self.per_id)
        state = self.encode(inputs, data_samples, self.perception_trains)
        hidden, language = self.forward_llm(state, batch)
        shares = ImageShares.of(batch.image_index, len(inputs))
        sums = dict(loss_llm=language_loss(
            self.llm, hidden, batch.labels, shares, batch.host.supervised))
        if not self.perception_trains:
            return reduce_over_ranks(sums)
        perceiving = [r for r, s in enumerate(data_samples) if s.instruction.needs_decoder]
        # A batch of captions alone still runs every module, for ranks that have others.
        kept = perceiving or [0]
        rows = torch.tensor(kept).to(inputs.device, non_blocking=True)
        batch = batch.select(kept)
        targets = Targets.collate([data_samples[r] for r in kept], batch, inputs.shape[-2:])
        perceived = self.perception.loss(
            state, batch, language.text[rows], language.summary[rows], targets)
        if not perceiving:
            perceived = {name: value.scaled(0.0) for name, value in perceived.items()}
        return reduce_over_ranks({**sums, **perceived})

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Add up the scalars whose name holds "loss", all at once.

        mmengine's own takes five operations for each of more than a hundred terms.

        Returns:
            The total (), and what is logged: the total first, then all values.
        """
        total = torch.stack([value for name, value in losses.items() if 'loss' in name]).sum()
        return total, dict(loss=total, **losses)

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, float]:
        """Take a training step; returns the values to log, read from the device at once."""
        return read_scalars(super().train_step(data, optim_wrapper))

    @torch.no_grad()
    def predict(self, inputs: Tensor | None, data_samples: list[PerceptionDataSample],
                thinking: bool | None = None, answering: Answering | None = None,
                state: ImageState | None = None) -> list[PerceptionDataSample]:
        """Answer the instructions; each sample's task decodes its raw prediction.

        A word list in parts has one row of the batch per part.

        Args:
            inputs: (B, 3, H, W) normalised images; not read where ``state`` is given.
            data_samples: R samples with tokenised instructions and ``image_index``.
            thinking: Write the response first, for this call; None for the model's own setting.
            answering: Options of decoding for this call; None for the model's own.
            state: From :meth:`encode`, for images that have been encoded already.
        """
        answering = answering or self.answering
        if state is None:
            state = self.encode(inputs, data_samples)
        llm_rows = LLMRows(data_samples)
        batch = InstructionBatch.collate(llm_rows.rows, state.visual_tokens.device)
        language = self._respond(state, batch, self.thinking if thinking is None else thinking)
        found = self.perception.decode(state, batch, language.text, language.summary)
        raws = llm_rows.raw_predictions(
            found, self.perception.similarity_head, self.perception.num_queries)
        for sample, raw, first in zip(data_samples, raws, llm_rows.first, strict=True):
            raw.answering = answering
            raw.caption = caption_of(self.tokenizer.decode(language.captions[first].tolist()))
            sample.pred_response_forced = language.forced[first]
            sample.task_object.decode(raw, sample)
        return data_samples

    def _respond(self, state: ImageState, batch: InstructionBatch,
                 thinking: bool) -> LanguageOutput:
        room = self.max_response_tokens if thinking else len(self.ending)
        check_room(batch, room, self.llm)
        if thinking:
            return self.generate_then_read(state, batch)
        _, language = self.forward_llm(state, append_tokens(batch, self.ending))
        rows = len(batch.ids)
        written = torch.tensor(self.ending, device=batch.ids.device)
        return replace(language, captions=[written] * rows, forced=[False] * rows)
