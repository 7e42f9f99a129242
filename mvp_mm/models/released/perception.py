# Copyright (c) mvp_mm authors. All rights reserved.
"""Queries, decoder and heads put together as in the authors' released code."""
from __future__ import annotations

from types import NoneType
from typing import Any, ClassVar

import torch
from torch import Tensor

from mvp_mm.models.heads import TextEmbeddings
from mvp_mm.models.losses import Mean, Predictions, SampledMasks, Targets
from mvp_mm.models.perception import PerceptionHead, named_sets
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
from mvp_mm.models.state import ImageState, InstructionBatch, RowsByImage
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

    def _text(self, pooled: Tensor, batch: InstructionBatch) -> TextEmbeddings:
        projected = self.text_mlp(pooled, batch.is_word)
        return TextEmbeddings(projected, None, batch.phrase_mask, batch.is_word)

    def _generate(self, state: ImageState, batch: InstructionBatch, text: Tensor,
                  summary: Tensor, rows: RowsByImage) -> QuerySet:
        names, _ = split_background(batch.phrase_mask, batch.is_word)
        similarity = MemorySimilarity(self.similarity_head, batch.is_word)
        return self.query_generator(
            summary, state, text, names, rows, similarity, self.box_head)

    def _with_stuff(self, queries: QuerySet, batch: InstructionBatch
                    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        content, boxes, allowed, valid = super()._with_stuff(queries, batch)
        return content.detach(), boxes.detach(), allowed, valid

    def _decode(self, state: ImageState, batch: InstructionBatch, text: TextEmbeddings,
                content: Tensor, boxes: Tensor, allowed: Tensor, valid: Tensor,
                noised: DenoisingQueries | None) -> tuple[Predictions, Predictions | None]:
        extra = 0
        if noised is not None:
            extra = noised.content.shape[1]
            content = torch.cat([noised.content, content], 1)
            boxes = torch.cat([noised.box_logits.sigmoid(), boxes], 1)
            allowed = noised.extend(allowed, valid)
            valid = torch.cat([noised.valid, valid], 1)
        rows = RowsByImage(batch.image_index, len(state.memory))
        states, refined = self.decoder(content, boxes, allowed, state, rows, self.box_head)
        logits = self.similarity_head(states, refined, text)
        outputs = (logits, refined, self.mask_head(states), valid.expand(len(states), -1, -1))
        main = Predictions(*(x[:, :, extra:] for x in outputs), self.num_queries)
        if noised is None:
            return main, None
        return main, Predictions(*(x[:, :, :extra] for x in outputs), extra)

    def _add_selection(self, predictions: Predictions, queries: QuerySet,
                       text: TextEmbeddings) -> Predictions:
        """Put the queries before they were detached in front, as one more supervised set."""
        content, boxes = queries.selected, queries.selected_boxes
        if predictions.boxes.shape[2] > self.num_queries:
            stuff = (self.stuff.content, self.stuff.boxes.sigmoid())
            content, boxes = (torch.cat([x, extra.expand(len(x), -1, -1)], 1)
                              for x, extra in zip((content, boxes), stuff, strict=True))
        states = self.decoder.norm(content)
        first = (self.similarity_head(states, boxes, text), boxes, self.mask_head(states),
                 predictions.valid[0])
        rest = (predictions.logits, predictions.boxes, predictions.mask_embed, predictions.valid)
        joined = [torch.cat([a[None], b]) for a, b in zip(first, rest, strict=True)]
        return Predictions(*joined, self.num_queries)

    def _denoising_loss(self, rows: Predictions | None, targets: Targets,
                        noised: DenoisingQueries | None, batch: InstructionBatch,
                        masks: SampledMasks) -> dict[str, Mean]:
        """Losses of the denoising queries: of the noised input and after every layer.

        A batch that goes without has zeros under the same names: other processes may have some,
        and all of them add up their counts together.
        """
        names = [f'denoise.d{i}.' for i in range(len(self.decoder.layers) + 1)]
        if noised is None:
            nothing = targets.boxes.new_zeros(len(names))
            values = dict.fromkeys(self.criterion.names, Mean(nothing, nothing))
            return named_sets(_without_sentences(values), names)
        values = self.criterion(
            rows, targets, noised.matches(len(rows.logits)), batch.is_word, masks, copies=True)
        return named_sets(_without_sentences(values), names)


def _without_sentences(values: dict[str, Mean]) -> dict[str, Mean]:
    return {name: mean for name, mean in values.items() if name not in ('loss_sent', 'loss_rank')}
