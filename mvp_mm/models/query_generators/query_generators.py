# Copyright (c) mvp_mm authors. All rights reserved.
"""Query generators: decoder queries from ``<PER>`` and image (paper section 3.1, figure 2)."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mvp_mm.models.heads.perception_heads import cosines
from mvp_mm.models.position import grid_points
from mvp_mm.models.state import ImageState, QueriesPerImage
from mvp_mm.registry import MODELS


@dataclass
class QuerySet:
    """Queries of R instructions.

    Attributes:
        content: (R, N, C).
        boxes: (R, N, 4) reference boxes cxcywh in [0, 1], without gradient.
        selected: (R, N, C) selected features with gradient, for the encoder's own supervision;
            None where nothing is selected.
        selected_boxes: (R, N, 4) their boxes with gradient.
    """

    content: Tensor
    boxes: Tensor
    selected: Tensor | None = None
    selected_boxes: Tensor | None = None


class BaseQueries(nn.Module):
    """Expands the ``<PER>`` state into N base query vectors with an MLP."""

    def __init__(self, llm_dims: int, embed_dims: int, num_queries: int) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.expand = nn.Sequential(
            nn.Linear(llm_dims, embed_dims), nn.GELU(),
            nn.Linear(embed_dims, num_queries * embed_dims))

    def forward(self, summary: Tensor) -> Tensor:
        """(R, D) → (R, N, C)."""
        return self.expand(summary).view(summary.shape[0], self.num_queries, -1)


class TopNSelection(nn.Module):
    """Selects the N memory tokens most similar to the instruction, with a box proposal each."""

    base_size = 0.05

    def __init__(self, embed_dims: int, num_queries: int) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.project = nn.Sequential(nn.Linear(embed_dims, embed_dims), nn.LayerNorm(embed_dims))

    def anchors(self, state: ImageState) -> Tensor:
        """Place one anchor box cxcywh (S, 4) per position, doubling in size per coarser level."""
        points = grid_points(state.shapes, state.memory.device)
        sizes = torch.cat([
            points.new_full((h * w, 2), self.base_size * 2.0**level)
            for level, (h, w) in enumerate(state.shapes)])
        return torch.cat([points, sizes], -1)

    def forward(self, state: ImageState, text: Tensor, phrases: Tensor, per_image: QueriesPerImage,
                similarity: nn.Module, box_head: nn.Module) -> QuerySet:
        """Select the features and propose boxes.

        Args:
            state: The images.
            text: (R, K, C) text embeddings.
            phrases: (R, K) bool, phrases that may attract queries; at least one per row.
            per_image: The image of each row.
            similarity: The shared similarity head.
            box_head: The shared box head.
        """
        tokens = state.memory.shape[1]
        if tokens < self.num_queries:
            raise ValueError(f'{self.num_queries} queries cannot be selected from {tokens} tokens')
        features = self.project(state.memory)
        chosen = self.rank(features, state.padding_mask, text, phrases, per_image, similarity)
        flat = per_image.pack(chosen)
        gathered = features.gather(1, flat[..., None].expand(-1, -1, features.shape[-1]))
        anchors = self.anchors(state)[flat]
        selected, anchors = per_image.unpack(gathered), per_image.unpack(anchors)
        boxes = box_head(selected, anchors)
        return QuerySet(selected.detach(), boxes.detach(), selected, boxes)

    @torch.no_grad()
    def rank(self, features: Tensor, padding: Tensor, text: Tensor, phrases: Tensor,
              per_image: QueriesPerImage, similarity: nn.Module) -> Tensor:
        """Return the N most similar memory tokens of each row, indices (R, N)."""
        score = cosines(similarity.embed(features), per_image.pack(text)).transpose(1, 2)
        score = per_image.unpack(score)
        lowest = torch.finfo(score.dtype).min
        score = score.masked_fill(~phrases[..., None], lowest).amax(1)
        score = score.masked_fill(padding[per_image.image_index], lowest)
        return score.topk(self.num_queries, dim=1).indices


@MODELS.register_module()
class DynamicQueryGenerator(BaseModule):
    """Adds base queries from ``<PER>`` to the N most similar visual features (the paper).

    Args:
        llm_dims: LLM width D.
        embed_dims: Width C.
        num_queries: N.
    """

    def __init__(self, llm_dims: int, embed_dims: int = 256, num_queries: int = 100) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.base = BaseQueries(llm_dims, embed_dims, num_queries)
        self.selection = TopNSelection(embed_dims, num_queries)

    def forward(self, summary: Tensor, state: ImageState, text: Tensor, phrases: Tensor,
                per_image: QueriesPerImage, similarity: nn.Module, box_head: nn.Module) -> QuerySet:
        """Generate queries.

        Args:
            summary: (R, D) hidden state of ``<PER>``.
            state: The images.
            text: (R, K, C) text embeddings.
            phrases: (R, K) bool, phrases that may attract queries.
            per_image: The image of each row.
            similarity: The shared similarity head.
            box_head: The shared box head.
        """
        queries = self.selection(state, text, phrases, per_image, similarity, box_head)
        queries.content = queries.content + self.base(summary)
        return queries


@MODELS.register_module()
class VisualQueryGenerator(BaseModule):
    """Selects the N most similar visual features alone (last row of the paper's table 7).

    Args:
        embed_dims: Width C.
        num_queries: N.
    """

    def __init__(self, embed_dims: int = 256, num_queries: int = 100) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.selection = TopNSelection(embed_dims, num_queries)

    def forward(self, summary: Tensor, state: ImageState, text: Tensor, phrases: Tensor,
                per_image: QueriesPerImage, similarity: nn.Module, box_head: nn.Module) -> QuerySet:
        """See :class:`DynamicQueryGenerator`; the summary is not used."""
        return self.selection(state, text, phrases, per_image, similarity, box_head)


@MODELS.register_module()
class LearnableQueryGenerator(BaseModule):
    """Adds base queries to learned embeddings and boxes (the paper's table 9, no selection)."""

    def __init__(self, llm_dims: int, embed_dims: int = 256, num_queries: int = 100) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.base = BaseQueries(llm_dims, embed_dims, num_queries)
        self.content = nn.Embedding(num_queries, embed_dims)
        self.boxes = nn.Parameter(torch.randn(num_queries, 4))

    def forward(self, summary: Tensor, state: ImageState, text: Tensor, phrases: Tensor,
                per_image: QueriesPerImage, similarity: nn.Module, box_head: nn.Module) -> QuerySet:
        """See :class:`DynamicQueryGenerator`; the image is not read."""
        content = self.content.weight + self.base(summary)
        return QuerySet(content, self.boxes.sigmoid().expand(summary.shape[0], -1, -1))
