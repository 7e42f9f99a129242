# Copyright (c) mvp_mm authors. All rights reserved.
"""Queries, decoder and heads as one module: the perceiving half of the model."""
from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mvp_mm.models.heads import TextEmbeddings
from mvp_mm.models.losses import (
    Denoising,
    DenoisingRows,
    Mean,
    PerceptionCriterion,
    Predictions,
    SampledMasks,
    Targets,
)
from mvp_mm.models.losses.matcher import HungarianMatcher
from mvp_mm.models.query_generators import QuerySet
from mvp_mm.models.state import ImageState, InstructionBatch, RowsByImage
from mvp_mm.registry import MODELS, TASK_UTILS


class StuffQueries(nn.Module):
    """Learnable queries for stuff (paper section 4, "Implementation Details")."""

    def __init__(self, num_queries: int, embed_dims: int) -> None:
        super().__init__()
        self.content = nn.Parameter(torch.randn(num_queries, embed_dims) * 0.1)
        self.boxes = nn.Parameter(torch.randn(num_queries, 4))


@dataclass
class DecodedQueries:
    """The last decoder layer's queries of R instructions, before they are compared with phrases.

    Attributes:
        states: (R, Q, C).
        boxes: (R, Q, 4) cxcywh in [0, 1].
        masks: (R, Q, h, w) logits.
        text: The phrases of the R instructions.
    """

    states: Tensor
    boxes: Tensor
    masks: Tensor
    text: TextEmbeddings


def text_mlp(llm_dims: int, embed_dims: int) -> nn.Sequential:
    """From the LLM's width to the perceiving half's."""
    return nn.Sequential(
        nn.Linear(llm_dims, embed_dims), nn.GELU(), nn.Linear(embed_dims, embed_dims))


@torch.no_grad()
def mean_phrase_cosine(text: Tensor, phrase_mask: Tensor) -> Tensor:
    """Mean cosine between the embeddings of different phrases of one list; logged, not trained.

    Near 1 means that the LLM does not tell the names apart, whatever the decoder does.

    Args:
        text: (R, K, C).
        phrase_mask: (R, K) bool.
    """
    unit = F.normalize(text.float(), dim=-1)
    pairs = phrase_mask[:, :, None] & phrase_mask[:, None]
    pairs = pairs & ~torch.eye(text.shape[1], dtype=torch.bool, device=text.device)
    return ((unit @ unit.transpose(1, 2)) * pairs).sum() / pairs.sum().clamp(min=1)


@MODELS.register_module()
class PerceptionHead(BaseModule):
    """Turns text embeddings, ``<PER>`` states and image states into boxes, masks, similarities.

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
        width = dict(embed_dims=embed_dims)
        self.text_mlp = text_mlp(llm_dims, embed_dims)
        self.query_generator = MODELS.build(
            {'llm_dims': llm_dims, **width, **query_generator})
        self.num_queries = self.query_generator.num_queries
        self.stuff = StuffQueries(num_stuff_queries, embed_dims)
        self.decoder = MODELS.build({**width, **decoder})
        self.similarity_head = MODELS.build(
            {**width, 'prior_queries': self.num_queries, **similarity_head})
        self.relation_mlp = (
            text_mlp(llm_dims, embed_dims) if self.similarity_head.relation else None)
        self.box_head = MODELS.build({**width, **box_head})
        self.mask_head = MODELS.build({**width, **mask_head})
        self.denoising: Denoising | None = (
            MODELS.build({**width, **denoising}) if denoising else None)
        self.matcher: HungarianMatcher = TASK_UTILS.build(matcher)
        self.criterion: PerceptionCriterion = MODELS.build(criterion)

    def loss(self, state: ImageState, batch: InstructionBatch, pooled: Tensor, summary: Tensor,
             targets: Targets) -> dict[str, Mean]:
        """Perception losses of R instructions, named ``enc.``, ``d0.`` … and ``denoise.``.

        ``text_cosine`` (see :func:`mean_phrase_cosine`) is logged beside them.

        Args:
            state: B images.
            batch: R instructions.
            pooled: (R, K, D) pooled phrase states.
            summary: (R, D) states of ``<PER>``.
            targets: Targets of the R instructions.
        """
        text = self._text(pooled, batch)
        rows = RowsByImage(batch.image_index, len(state.memory))
        queries = self._generate(state, batch, text.content, summary, rows)
        content, boxes, allowed, valid = self._with_stuff(queries, batch)
        noised = None
        if self.denoising is not None:
            noised = self.denoising(targets, batch, text.content, content.shape[1])
        main, denoised = self._decode(
            state, batch, text, content, boxes, allowed, valid, noised)
        main = self._add_selection(main, queries, text)
        masks = self.criterion.sample(state.mask_features, targets, batch.image_index)
        matches = self.matcher(main, targets, batch.is_word, masks)
        values = self.criterion(main, targets, matches, batch.is_word, masks)
        losses = self._named(values, selection=queries.selected is not None)
        if self.denoising is not None:
            losses.update(self._denoising_loss(denoised, targets, noised, batch, masks))
        # Stuff queries take part only where a row asks for them, yet must have a gradient
        # in every process.
        idle = (self.stuff.content.sum() + self.stuff.boxes.sum()) * 0
        first = next(iter(losses))
        losses[first] = Mean(losses[first].total + idle, losses[first].count)
        likeness = mean_phrase_cosine(text.content, text.mask)
        losses['text_cosine'] = Mean(likeness, torch.ones_like(likeness))
        return losses

    def predict(self, state: ImageState, batch: InstructionBatch, pooled: Tensor,
                summary: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Last layer's logits (R, Q, K + 1), boxes (R, Q, 4) and mask logits (R, Q, h, w)."""
        found = self.decode(state, batch, pooled, summary)
        logits = self.similarity_head(found.states, found.boxes, found.text)
        return logits, found.boxes, found.masks

    def decode(self, state: ImageState, batch: InstructionBatch, pooled: Tensor,
               summary: Tensor) -> DecodedQueries:
        """The last layer's queries; arguments as for :meth:`loss`."""
        text = self._text(pooled, batch)
        rows = RowsByImage(batch.image_index, len(state.memory))
        queries = self._generate(state, batch, text.content, summary, rows)
        content, boxes, allowed, valid = self._with_stuff(queries, batch)
        states, refined = self.decoder(content, boxes, allowed, state, rows, self.box_head)
        embed = rows.pack(self.mask_head(states[-1]))
        masks = rows.unpack(embed @ state.mask_features.flatten(2))
        masks = masks.view(*masks.shape[:2], *state.mask_features.shape[-2:])
        return DecodedQueries(states[-1], refined[-1], masks, text)

    def _text(self, pooled: Tensor, batch: InstructionBatch) -> TextEmbeddings:
        relation = None if self.relation_mlp is None else self.relation_mlp(pooled)
        return TextEmbeddings(
            self.text_mlp(pooled), relation, batch.phrase_mask, batch.is_word)

    def _generate(self, state: ImageState, batch: InstructionBatch, text: Tensor,
                  summary: Tensor, rows: RowsByImage) -> QuerySet:
        # Where stuff has queries of its own, dynamic queries look for things; a list without any
        # still selects by what it names.
        attracts = batch.phrase_mask & (batch.is_thing | ~batch.use_stuff[:, None])
        attracts = torch.where(attracts.any(1, keepdim=True), attracts, batch.phrase_mask)
        return self.query_generator(
            summary, state, text, attracts, rows, self.similarity_head, self.box_head)

    def _with_stuff(self, queries: QuerySet, batch: InstructionBatch
                    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Append stuff queries when any row wants them; what each query may attend to."""
        content, boxes = queries.content, queries.boxes
        rows, dynamic = content.shape[:2]
        # A caption row has no answer: its queries take no part in any loss or count.
        valid = batch.perceives[:, None].expand(rows, dynamic)
        if bool(batch.use_stuff.any()):
            content = torch.cat([content, self.stuff.content.expand(rows, -1, -1)], 1)
            boxes = torch.cat([boxes, self.stuff.boxes.sigmoid().expand(rows, -1, -1)], 1)
            extra = batch.use_stuff[:, None].expand(-1, len(self.stuff.content))
            valid = torch.cat([valid, extra], 1)
        itself = torch.eye(content.shape[1], dtype=torch.bool, device=content.device)
        return content, boxes, valid[:, None, :] | itself, valid

    def _decode(self, state: ImageState, batch: InstructionBatch, text: TextEmbeddings,
                content: Tensor, boxes: Tensor, allowed: Tensor, valid: Tensor,
                noised: DenoisingRows | None) -> tuple[Predictions, Predictions | None]:
        """Decode the instructions and, behind them, the denoising rows; those come second."""
        image_index = batch.image_index
        if noised is not None:
            content = torch.cat([content, noised.content])
            boxes = torch.cat([boxes, noised.boxes])
            allowed = torch.cat([allowed, noised.allowed])
            valid = torch.cat([valid, noised.valid])
            image_index = torch.cat([image_index, image_index[noised.source]])
            text = text.with_copies(noised.source)
        rows = RowsByImage(image_index, len(state.memory))
        states, refined = self.decoder(content, boxes, allowed, state, rows, self.box_head)
        # A query knows neither its neighbours nor its place before the first layer.
        logits = torch.cat([
            self.similarity_head(states[:1], refined[:1], text.content_only()),
            self.similarity_head(states[1:], refined[1:], text)])
        every = Predictions(logits, refined, self.mask_head(states),
                            valid.expand(len(states), -1, -1), self.num_queries)
        if noised is None:
            return every, None
        count = len(batch.ids)
        # The noised input itself is not supervised.
        return (every.rows(slice(count)),
                every.rows(slice(count, None), sets=slice(1, None)))

    def _add_selection(self, predictions: Predictions, queries: QuerySet,
                       text: TextEmbeddings) -> Predictions:
        """Put the selected features in front, as one more supervised set."""
        if queries.selected is None:
            return predictions
        # As the selection itself, by content alone.
        logits = self.similarity_head(
            queries.selected, queries.selected_boxes, text.content_only())
        missing = predictions.boxes.shape[2] - self.num_queries
        pad = (0, 0, 0, missing)
        taking_part = predictions.valid[0, :, :self.num_queries]
        first = (F.pad(logits, pad), F.pad(queries.selected_boxes, pad, value=0.5),
                 F.pad(self.mask_head(queries.selected), pad),
                 F.pad(taking_part, (0, missing), value=False))
        rest = (predictions.logits, predictions.boxes, predictions.mask_embed, predictions.valid)
        joined = [torch.cat([a[None], b]) for a, b in zip(first, rest, strict=True)]
        return Predictions(*joined, self.num_queries)

    def _named(self, values: dict[str, Mean], selection: bool) -> dict[str, Mean]:
        """The last layer's losses go unprefixed; the others as ``enc.``, ``d0.``, ``d1.`` …"""
        sets = len(next(iter(values.values())).total)
        prefixes = ['enc.'] * selection
        prefixes += [f'd{i}.' for i in range(sets - selection - 1)] + ['']
        return named_sets(values, prefixes)

    def _denoising_loss(self, rows: Predictions, targets: Targets, noised: DenoisingRows,
                        batch: InstructionBatch, masks: SampledMasks) -> dict[str, Mean]:
        """Losses of the denoising rows, after every layer."""
        source = noised.source
        # Stuff is not noised and must not count.
        things = (targets.valid & ~targets.is_stuff)[source]
        wanted = Targets(
            targets.labels[source], targets.boxes[source], things, targets.is_stuff[source],
            targets.mask_index[source].masked_fill(~things, -1), targets.masks)
        matches = noised.matches(len(rows.logits))
        values = self.criterion(
            rows, wanted, matches, batch.is_word[source], masks.of_rows(source), copies=True)
        for sentence_loss in ('loss_sent', 'loss_rank'):
            values.pop(sentence_loss)
        return named_sets(values, [f'denoise.d{i}.' for i in range(len(rows.logits))])


def named_sets(values: dict[str, Mean], prefixes: list[str]) -> dict[str, Mean]:
    """Means of S sets as scalars, one prefix a set."""
    return {prefix + name: Mean(total, count)
            for name, mean in values.items()
            for prefix, total, count in zip(
                prefixes, mean.total.unbind(), mean.count.expand_as(mean.total), strict=True)}
