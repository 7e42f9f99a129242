# Copyright (c) mvp_mm authors. All rights reserved.
"""Query selection of the authors' released code: DINO's two stages."""
from __future__ import annotations

from dataclasses import replace

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mvp_mm.models.position import grid_points
from mvp_mm.models.query_generators import QuerySet
from mvp_mm.models.query_generators.query_generators import TopNSelection
from mvp_mm.models.released.heads import MemorySimilarity
from mvp_mm.models.state import ImageState, QueriesPerImage
from mvp_mm.registry import MODELS


class ReleasedSelection(TopNSelection):
    """Selects memory tokens by plain products; anchors near the border are left out.

    Anchors double in size with each finer level, since the released code counts levels from the
    coarsest.
    """

    low, high = 0.01, 0.99

    def anchors(self, state: ImageState) -> Tensor:
        """Place one anchor box cxcywh (S, 4) per position; the coarsest level has the smallest."""
        points = grid_points(state.shapes, state.memory.device)
        coarsest = len(state.shapes) - 1
        sizes = torch.cat([
            points.new_full((h * w, 2), self.base_size * 2.0**(coarsest - level))
            for level, (h, w) in enumerate(state.shapes)])
        return torch.cat([points, sizes], -1)

    def forward(self, state: ImageState, text: Tensor, phrases: Tensor, per_image: QueriesPerImage,
                similarity: MemorySimilarity, box_head: nn.Module) -> QuerySet:
        """See :class:`TopNSelection`; ``similarity`` is a :class:`MemorySimilarity`."""
        anchors = self.anchors(state)
        outside = ~((anchors > self.low) & (anchors < self.high)).all(-1)
        unfit = state.padding_mask | outside
        masked = replace(
            state, memory=state.memory.masked_fill(unfit[..., None], 0.0), padding_mask=unfit)
        return super().forward(masked, text, phrases, per_image, similarity, box_head)

    @torch.no_grad()
    def rank(self, features: Tensor, padding: Tensor, text: Tensor, phrases: Tensor,
              per_image: QueriesPerImage, similarity: MemorySimilarity) -> Tensor:
        """Return the N tokens of the largest products for each row, indices (R, N)."""
        score = similarity(features, text, per_image)
        lowest = torch.finfo(score.dtype).min
        score = score.masked_fill(~phrases[..., None], lowest).amax(1)
        score = score.masked_fill(padding[per_image.image_index], lowest)
        return score.topk(self.num_queries, dim=1).indices


@MODELS.register_module()
class ReleasedQueryGenerator(BaseModule):
    """Selects the N visual features most similar to the text; the LLM's summary is not read.

    Args:
        embed_dims: Width C.
        num_queries: N.
    """

    def __init__(self, embed_dims: int = 256, num_queries: int = 100) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.selection = ReleasedSelection(embed_dims, num_queries)

    def forward(self, summary: Tensor, state: ImageState, text: Tensor, phrases: Tensor,
                per_image: QueriesPerImage, similarity: MemorySimilarity,
                box_head: nn.Module) -> QuerySet:
        """See :class:`DynamicQueryGenerator`; ``similarity`` is a :class:`MemorySimilarity`.

        Raises:
            TypeError: If the similarity is of another kind.
        """
        if not isinstance(similarity, MemorySimilarity):
            raise TypeError('ReleasedQueryGenerator works inside ReleasedPerceptionHead alone, got '
                            f'{type(similarity).__name__} for the similarity')
        return self.selection(state, text, phrases, per_image, similarity, box_head)
