# Copyright (c) mvp_mm authors. All rights reserved.
"""The perception head: generates queries, decodes them and computes their losses."""
from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mvp_mm.models.building import build_part
from mvp_mm.models.heads import DecodedQueries, TextEmbeddings
from mvp_mm.models.heads.surroundings import memory_around
from mvp_mm.models.heads.text_embeddings import mean_phrase_cosine, text_mlp
from mvp_mm.models.losses import (
    Denoising,
    DenoisingRows,
    HungarianMatcher,
    ImageShares,
    PerceptionCriterion,
    Predictions,
    SampledMasks,
    Targets,
    WeightedSum,
    named_sets,
)
from mvp_mm.models.query_generators import QuerySet
from mvp_mm.models.state import DecoderQueries, ImageState, InstructionBatch, QueriesPerImage
from mvp_mm.registry import MODELS, TASK_UTILS


class StuffQueries(nn.Module):
    """Holds the learnable queries for stuff (paper section 4, "Implementation Details")."""

    def __init__(self, num_queries: int, embed_dims: int) -> None:
        super().__init__()
        self.content = nn.Parameter(torch.randn(num_queries, embed_dims) * 0.1)
        self.boxes = nn.Parameter(torch.randn(num_queries, 4))


class TrainingPredictions(NamedTuple):
    """Predictions of all decoder layers.

    Attributes:
        main: Of the queries to be matched.
        denoising: Of the denoising queries; None where there are none.
    """

    main: Predictions
    denoising: Predictions | None


@MODELS.register_module()
class PerceptionHead(BaseModule):
    """Turns text embeddings, ``<PER>`` states and image states into boxes, masks, similarities.

    :meth:`loss` and :meth:`decode` run the same steps, each of which a variant may override:
    :meth:`embed_text` → :meth:`generate_queries` → :meth:`add_stuff_queries` →
    (:meth:`make_denoising`) → :meth:`predict_layers` → :meth:`add_selection` →
    :meth:`denoising_loss`; the last four in training alone.

    Args:
        llm_dims: LLM width D.
        embed_dims: Width C.
        query_generator: Config; see :mod:`mvp_mm.models.query_generators`.
        decoder: Config of the decoder.
        similarity_head: Config.
        box_head: Config.
        mask_head: Config.
        num_stuff_queries: Learnable stuff queries, used by panoptic and semantic tasks.
        denoising: Config, or None to train without.
        matcher: Config.
        criterion: Config.
    """

    def __init__(self, llm_dims: int, embed_dims: int, query_generator: dict, decoder: dict,
                 similarity_head: dict, box_head: dict, mask_head: dict,
                 num_stuff_queries: int, denoising: dict | None, matcher: dict,
                 criterion: dict) -> None:
        super().__init__()
        sizes = dict(llm_dims=llm_dims, embed_dims=embed_dims)
        self.text_mlp = text_mlp(llm_dims, embed_dims)
        self.query_generator = build_part(query_generator, **sizes)
        self.num_queries = self.query_generator.num_queries
        self.stuff = StuffQueries(num_stuff_queries, embed_dims)
        self.decoder = build_part(decoder, **sizes)
        self.similarity_head = build_part(
            similarity_head, prior_queries=self.num_queries, **sizes)
        self.relation_mlp = (
            text_mlp(llm_dims, embed_dims) if self.similarity_head.relation else None)
        around = self.similarity_head.surroundings
        self.surroundings_text = None if around is None else around.text_projection(llm_dims)
        self.box_head = build_part(box_head, **sizes)
        self.mask_head = build_part(mask_head, **sizes)
        self.denoising: Denoising | None = (
            build_part(denoising, **sizes) if denoising else None)
        self.matcher: HungarianMatcher = TASK_UTILS.build(matcher)
        self.criterion: PerceptionCriterion = MODELS.build(criterion)

    def loss(self, state: ImageState, batch: InstructionBatch, pooled: Tensor, summary: Tensor,
             targets: Targets) -> dict[str, WeightedSum]:
        """Compute the perception losses of R instructions.

        Auxiliary losses have a prefix: ``enc.`` (the selected features), ``d0.`` (the initial
        queries), ``d1.`` … (decoder layers before the last) and ``denoise.``.
        ``mean_phrase_cosine`` (see :func:`mean_phrase_cosine`) is logged beside them.

        Args:
            state: B images.
            batch: R instructions.
            pooled: (R, K, D) pooled phrase states.
            summary: (R, D) states of ``<PER>``.
            targets: Targets of the R instructions.
        """
        text = self.embed_text(pooled, batch)
        per_image = batch.per_image(len(state.memory))
        generated = self.generate_queries(state, batch, text.content, summary, per_image)
        queries = self.add_stuff_queries(generated, batch)
        noised = None
        if self.denoising is not None:
            noised = self.make_denoising(targets, batch, text, queries)
        main, denoised = self.predict_layers(state, batch, text, queries, noised)
        main = self.add_selection(main, generated, text)
        masks = self.criterion.sample(
            state.mask_features, targets, batch.image_index, batch.on_host.image_index)
        matches = self.matcher(main, targets, batch.is_word, masks)
        shares = ImageShares.of(batch.image_index, len(state.memory))
        values = self.criterion(main, targets, matches, batch.is_word, masks, shares=shares)
        losses = self._named(values, selection=generated.selected is not None)
        if self.denoising is not None:
            losses.update(self.denoising_loss(
                denoised, targets, noised, batch, masks, shares))
        # Stuff queries that no row asks for must have a gradient on every rank all the same.
        idle = (self.stuff.content.sum() + self.stuff.boxes.sum()) * 0
        first = next(iter(losses))
        losses[first] = losses[first]._replace(total=losses[first].total + idle)
        cosine = mean_phrase_cosine(text.content, text.mask)
        losses['mean_phrase_cosine'] = WeightedSum(cosine, torch.ones_like(cosine))
        return losses

    def predict(self, state: ImageState, batch: InstructionBatch, pooled: Tensor,
                summary: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Predict the last layer's logits (R, Q, K + 1), boxes (R, Q, 4), masks (R, Q, h, w)."""
        found = self.decode(state, batch, pooled, summary)
        logits = self.similarity_head(found.states, found.boxes, found.text)
        return logits, found.boxes, found.masks

    def decode(self, state: ImageState, batch: InstructionBatch, pooled: Tensor,
               summary: Tensor) -> DecodedQueries:
        """Decode the last layer's queries; arguments as for :meth:`loss`."""
        text = self.embed_text(pooled, batch)
        per_image = batch.per_image(len(state.memory))
        generated = self.generate_queries(state, batch, text.content, summary, per_image)
        queries = self.add_stuff_queries(generated, batch)
        states, refined = self.decoder(queries.content, queries.boxes, queries.allowed, state,
                                       per_image, self.box_head)
        embed = per_image.pack(self.mask_head(states[-1]))
        masks = per_image.unpack(embed @ state.mask_features.flatten(2))
        masks = masks.view(*masks.shape[:2], *state.mask_features.shape[-2:])
        described = self.describe(states[-1], refined[-1], state, per_image)
        return DecodedQueries(described, refined[-1], masks, text)

    def embed_text(self, pooled: Tensor, batch: InstructionBatch) -> TextEmbeddings:
        """Project pooled phrase states (R, K, D) to text embeddings (R, K, C)."""
        relation = None if self.relation_mlp is None else self.relation_mlp(pooled)
        surroundings = None if self.surroundings_text is None else self.surroundings_text(pooled)
        return TextEmbeddings(
            self.text_mlp(pooled), relation, batch.phrase_mask, batch.is_word, surroundings)

    def generate_queries(self, state: ImageState, batch: InstructionBatch, text: Tensor,
                         summary: Tensor, per_image: QueriesPerImage) -> QuerySet:
        """Generate the N dynamic queries of each row.

        Where stuff has queries of its own, dynamic queries look for things; a list without any
        still selects by what it names.

        Args:
            state: B images.
            batch: R instructions.
            text: (R, K, C) text embeddings.
            summary: (R, D) states of ``<PER>``.
            per_image: The image of each row.
        """
        attracts = batch.phrase_mask & (batch.is_thing | ~batch.use_stuff[:, None])
        attracts = attracts | (batch.phrase_mask & ~attracts.any(1, keepdim=True))
        return self.query_generator(
            summary, state, text, attracts, per_image, self.similarity_head, self.box_head)

    def add_stuff_queries(self, generated: QuerySet, batch: InstructionBatch) -> DecoderQueries:
        """Append the stuff queries where any row wants them, and say who attends to whom.

        A caption row has no answer: its queries take part in no loss or count.
        """
        content, boxes = generated.content, generated.boxes
        rows, dynamic = content.shape[:2]
        valid = batch.needs_decoder[:, None].expand(rows, dynamic)
        if batch.any_stuff:
            content = torch.cat([content, self.stuff.content.expand(rows, -1, -1)], 1)
            boxes = torch.cat([boxes, self.stuff.boxes.sigmoid().expand(rows, -1, -1)], 1)
            extra = batch.use_stuff[:, None].expand(-1, len(self.stuff.content))
            valid = torch.cat([valid, extra], 1)
        itself = torch.eye(content.shape[1], dtype=torch.bool, device=content.device)
        return DecoderQueries(content, boxes, valid[:, None, :] | itself, valid)

    def make_denoising(self, targets: Targets, batch: InstructionBatch, text: TextEmbeddings,
                       queries: DecoderQueries) -> DenoisingRows:
        """Noise the targets into rows as wide as those of ``queries``."""
        return self.denoising(targets, batch, text.content, queries.content.shape[1])

    def predict_layers(self, state: ImageState, batch: InstructionBatch, text: TextEmbeddings,
                       queries: DecoderQueries,
                       noised: DenoisingRows | None) -> TrainingPredictions:
        """Predict from the initial queries and after every decoder layer.

        Denoising rows are decoded behind the R rows, in the same pass; their noised input is not
        supervised.
        """
        copies = []
        if noised is not None:
            queries = queries.with_rows(noised)
            text, copies = text.with_copies(noised.source), noised.copied_rows
        per_image = batch.per_image(len(state.memory), copies)
        states, refined = self.decoder(queries.content, queries.boxes, queries.allowed, state,
                                       per_image, self.box_head)
        described = self.describe(states[1:], refined[1:], state, per_image)
        # Before the first layer there is no self-attention and no box code: content alone counts.
        logits = torch.cat([
            self.similarity_head(states[:1], refined[:1], text.content_only()),
            self.similarity_head(described, refined[1:], text)])
        every = Predictions(logits, refined, self.mask_head(states),
                            queries.valid.expand(len(states), -1, -1), self.num_queries)
        if noised is None:
            return TrainingPredictions(every, None)
        count = len(batch.ids)
        return TrainingPredictions(every.rows(slice(count)),
                                   every.rows(slice(count, None), sets=slice(1, None)))

    def describe(self, states: Tensor, boxes: Tensor, state: ImageState,
                 per_image: QueriesPerImage) -> Tensor:
        """Give what the similarity head reads of queries (…, R, Q, C) with boxes (…, R, Q, 4).

        Returns:
            The states; (…, R, Q, 2 C) with what lies around the boxes behind, where that counts.
        """
        if self.surroundings_text is None:
            return states
        around = memory_around(boxes, state, per_image)
        return torch.cat([states, around.to(states.dtype)], -1)

    def add_selection(self, predictions: Predictions, generated: QuerySet,
                      text: TextEmbeddings) -> Predictions:
        """Put the selected features in front, as one more supervised set (two-stage DETR)."""
        if generated.selected is None:
            return predictions
        # As the selection itself, by content alone.
        logits = self.similarity_head(
            generated.selected, generated.selected_boxes, text.content_only())
        missing = predictions.boxes.shape[2] - self.num_queries
        pad = (0, 0, 0, missing)
        taking_part = predictions.valid[0, :, :self.num_queries]
        return predictions.with_first_set(
            F.pad(logits, pad), F.pad(generated.selected_boxes, pad, value=0.5),
            F.pad(self.mask_head(generated.selected), pad),
            F.pad(taking_part, (0, missing), value=False))

    def _named(self, values: dict[str, WeightedSum], selection: bool) -> dict[str, WeightedSum]:
        """Name the sets: the last layer unprefixed, the others ``enc.``, ``d0.``, ``d1.``, etc."""
        sets = len(next(iter(values.values())).total)
        prefixes = ['enc.'] * selection
        prefixes += [f'd{i}.' for i in range(sets - selection - 1)] + ['']
        return named_sets(values, prefixes)

    def denoising_loss(self, predictions: Predictions, targets: Targets, noised: DenoisingRows,
                       batch: InstructionBatch, masks: SampledMasks,
                       shares: ImageShares) -> dict[str, WeightedSum]:
        """Compute the losses of the denoising rows after every layer, named ``denoise.d0.`` ….

        Args:
            predictions: Of the W denoising rows.
            targets: Targets of the R rows.
            noised: The denoising rows.
            batch: R instructions.
            masks: Where masks are compared.
            shares: How much each of the R rows counts.
        """
        source, copied = noised.source, noised.copied_rows
        # Stuff is not noised and must not count.
        things = (targets.valid & ~targets.is_stuff)[source]
        wanted = Targets(
            targets.labels[source], targets.boxes[source], things, targets.is_stuff[source],
            targets.mask_index[source].masked_fill(~things, -1), targets.masks,
            targets.on_host.of_rows(copied))
        sets = len(predictions.logits)
        values = self.criterion(
            predictions, wanted, noised.matches(sets), batch.is_word[source],
            masks.of_rows(source, copied), one_to_many=True, shares=shares.of_rows(source))
        for sentence_loss in ('loss_sent', 'loss_rank'):
            values.pop(sentence_loss)
        return named_sets(values, [f'denoise.d{i}.' for i in range(sets)])
