# Copyright (c) mvp_mm authors. All rights reserved.
"""Joins queries, decoder and heads as the authors' released code does."""
from __future__ import annotations

from dataclasses import replace
from types import NoneType
from typing import Any, ClassVar

import torch
from torch import Tensor

from mvp_mm.models.heads import TextEmbeddings
from mvp_mm.models.losses import (
    ImageShares,
    Predictions,
    SampledMasks,
    Targets,
    WeightedSum,
    named_sets,
)
from mvp_mm.models.perception import PerceptionHead, TrainingPredictions
from mvp_mm.models.query_generators import QuerySet
from mvp_mm.models.released.decoder import DINODecoder
from mvp_mm.models.released.denoising import DenoisingQueries, ReleasedDenoising
from mvp_mm.models.released.heads import (
    MemorySimilarity,
    ReleasedSimilarityHead,
    TextProjectors,
    split_background,
)
from mvp_mm.models.released.query_generator import ReleasedQueryGenerator
from mvp_mm.models.state import DecoderQueries, ImageState, InstructionBatch, QueriesPerImage
from mvp_mm.registry import MODELS


@MODELS.register_module()
class ReleasedPerceptionHead(PerceptionHead):
    """Differs from :class:`PerceptionHead` in how the parts are joined.

    - The last phrase of a word list is the background: it attracts no query and answers as "no
      object".
    - All other names attract dynamic queries, those of stuff too.
    - Stuff queries are detached before the decoder, as selected ones are, and supervised beside
      them.
    - Denoising queries stand in front of a row's own, and their input is supervised too.

    It needs :class:`ReleasedQueryGenerator`, :class:`DINODecoder`,
    :class:`ReleasedSimilarityHead` and, where it is to denoise, :class:`ReleasedDenoising`.

    Args:
        llm_dims: LLM width D.
        embed_dims: Width C.
        **parts: See :class:`PerceptionHead`.

    Raises:
        ValueError: If one of the parts is of another kind.
    """

    needs: ClassVar[dict[str, type | tuple[type, ...]]] = dict(
        query_generator=ReleasedQueryGenerator, decoder=DINODecoder,
        similarity_head=ReleasedSimilarityHead, denoising=(ReleasedDenoising, NoneType))

    def __init__(self, llm_dims: int, embed_dims: int, **parts: Any) -> None:
        super().__init__(llm_dims, embed_dims, **parts)
        for name, kind in self.needs.items():
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f'{type(self).__name__} cannot work with {name}='
                                 f'{type(getattr(self, name)).__name__}; see its documentation')
        self.text_mlp = TextProjectors(llm_dims, embed_dims)

    def embed_text(self, pooled: Tensor, batch: InstructionBatch) -> TextEmbeddings:
        """Project words and sentences by a linear layer each."""
        projected = self.text_mlp(pooled, batch.is_word)
        return TextEmbeddings(projected, None, batch.phrase_mask, batch.is_word)

    def generate_queries(self, state: ImageState, batch: InstructionBatch, text: Tensor,
                         summary: Tensor, per_image: QueriesPerImage) -> QuerySet:
        """Select by all names but the background; the summary is not read."""
        names, _ = split_background(batch.phrase_mask, batch.is_word)
        similarity = MemorySimilarity(self.similarity_head, batch.is_word)
        return self.query_generator(
            summary, state, text, names, per_image, similarity, self.box_head)

    def add_stuff_queries(self, generated: QuerySet, batch: InstructionBatch) -> DecoderQueries:
        """Append the stuff queries and detach them all."""
        queries = super().add_stuff_queries(generated, batch)
        return replace(queries, content=queries.content.detach(), boxes=queries.boxes.detach())

    def make_denoising(self, targets: Targets, batch: InstructionBatch, text: TextEmbeddings,
                       queries: DecoderQueries) -> DenoisingQueries | None:
        """Noise the targets; None where a batch goes without."""
        return self.denoising(targets, batch, text.content)

    def predict_layers(self, state: ImageState, batch: InstructionBatch, text: TextEmbeddings,
                       queries: DecoderQueries,
                       noised: DenoisingQueries | None) -> TrainingPredictions:
        """Predict from the initial queries and after every layer, denoising queries in front."""
        extra = 0
        if noised is not None:
            extra = noised.content.shape[1]
            queries = noised.in_front_of(queries)
        per_image = batch.per_image(len(state.memory))
        states, refined = self.decoder(queries.content, queries.boxes, queries.allowed, state,
                                       per_image, self.box_head)
        logits = self.similarity_head(states, refined, text)
        outputs = (logits, refined, self.mask_head(states),
                   queries.valid.expand(len(states), -1, -1))
        main = Predictions(*(x[:, :, extra:] for x in outputs), self.num_queries)
        if noised is None:
            return TrainingPredictions(main, None)
        return TrainingPredictions(main, Predictions(*(x[:, :, :extra] for x in outputs), extra))

    def add_selection(self, predictions: Predictions, generated: QuerySet,
                      text: TextEmbeddings) -> Predictions:
        """Put the queries before they were detached in front, as one more supervised set."""
        content, boxes = generated.selected, generated.selected_boxes
        if predictions.boxes.shape[2] > self.num_queries:
            stuff = (self.stuff.content, self.stuff.boxes.sigmoid())
            content, boxes = (torch.cat([x, extra.expand(len(x), -1, -1)], 1)
                              for x, extra in zip((content, boxes), stuff, strict=True))
        states = self.decoder.norm(content)
        return predictions.with_first_set(
            self.similarity_head(states, boxes, text), boxes, self.mask_head(states),
            predictions.valid[0])

    def denoising_loss(self, predictions: Predictions | None, targets: Targets,
                       noised: DenoisingQueries | None, batch: InstructionBatch,
                       masks: SampledMasks, shares: ImageShares) -> dict[str, WeightedSum]:
        """Compute the losses of the denoising queries: of the noised input and after every layer.

        A batch that goes without has zeros under the same names: other ranks may have some, and
        all of them add up their counts together.
        """
        names = [f'denoise.d{i}.' for i in range(len(self.decoder.layers) + 1)]
        if noised is None:
            nothing = targets.boxes.new_zeros(len(names))
            count = shares.num_images if self.criterion.normalization == 'images' else nothing
            values = dict.fromkeys(self.criterion.names, WeightedSum(nothing, count))
            return named_sets(_without_sentences(values), names)
        values = self.criterion(
            predictions, targets, noised.matches(len(predictions.logits)), batch.is_word, masks,
            one_to_many=True, shares=shares)
        return named_sets(_without_sentences(values), names)


def _without_sentences(values: dict[str, WeightedSum]) -> dict[str, WeightedSum]:
    return {name: value for name, value in values.items()
            if name not in ('loss_sent', 'loss_rank')}
