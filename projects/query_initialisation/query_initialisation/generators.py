# Copyright (c) mvp_mm authors. All rights reserved.
"""Query generators between learned queries and query selection (the paper's table 9)."""
from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_convert

from mvp_mm.models.query_generators import DynamicQueryGenerator, QuerySet
from mvp_mm.models.query_generators.query_generators import BaseQueries, TopNSelection
from mvp_mm.models.state import ImageState, QueriesPerImage
from mvp_mm.registry import MODELS


class DistinctSelection(TopNSelection):
    """Selects N memory tokens whose box proposals do not repeat each other.

    NMS runs over the proposals of the most similar tokens; the N best survivors are kept, and
    where there are fewer, the best of those that were suppressed.

    Args:
        embed_dims: Width C.
        num_queries: N.
        iou_thr: Proposals that overlap a more similar one by more are suppressed.
        candidates: Candidates M per query.

    Raises:
        ValueError: If ``iou_thr`` is no overlap or there is less than one candidate per query.
    """

    def __init__(self, embed_dims: int, num_queries: int, iou_thr: float,
                 candidates: int) -> None:
        if not 0 < iou_thr <= 1:
            raise ValueError(f'distinct_iou must be in (0, 1], got {iou_thr}')
        if candidates < 1:
            raise ValueError(f'candidates must be at least 1, got {candidates}')
        super().__init__(embed_dims, num_queries * candidates)
        self.kept = num_queries
        self.iou_thr = iou_thr

    def forward(self, *args: object) -> QuerySet:
        """See :meth:`TopNSelection.forward`."""
        found = super().forward(*args)
        index = self.distinct(found.boxes)
        return QuerySet(*(values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))
                          for values in (found.content, found.boxes, found.selected,
                                         found.selected_boxes)))

    @torch.no_grad()
    def distinct(self, boxes: Tensor) -> Tensor:
        """Choose among proposals, most similar first.

        Args:
            boxes: (R, N · M, 4) cxcywh.

        Returns:
            (R, N) indices: survivors of NMS in their order, then suppressed ones.
        """
        rows, count = boxes.shape[:2]
        order = torch.arange(count, device=boxes.device)
        row = torch.arange(rows, device=boxes.device).repeat_interleave(count)
        flat = box_convert(boxes.float().flatten(0, 1), 'cxcywh', 'xyxy')
        survivors = batched_nms(flat, -order.repeat(rows).float(), row, self.iou_thr)
        suppressed = torch.ones(rows * count, dtype=torch.bool, device=boxes.device)
        suppressed[survivors] = False
        return (order + count * suppressed.view(rows, count)).argsort(1)[:, :self.kept]


def selection(embed_dims: int, num_queries: int, distinct_iou: float | None,
              candidates: int) -> TopNSelection:
    """Build the selection, by NMS where an overlap is given."""
    if distinct_iou is None:
        return TopNSelection(embed_dims, num_queries)
    return DistinctSelection(embed_dims, num_queries, distinct_iou, candidates)


@MODELS.register_module()
class DistinctQueryGenerator(DynamicQueryGenerator):
    """Adds base queries from ``<PER>`` to N similar features of different objects.

    Args:
        llm_dims: LLM width D.
        embed_dims: Width C.
        num_queries: N.
        distinct_iou: See :class:`DistinctSelection`.
        candidates: Candidates per query that NMS chooses from.
    """

    def __init__(self, llm_dims: int, embed_dims: int = 256, num_queries: int = 100,
                 distinct_iou: float = 0.7, candidates: int = 4) -> None:
        super().__init__(llm_dims, embed_dims, num_queries)
        self.selection = selection(embed_dims, num_queries, distinct_iou, candidates)


@MODELS.register_module()
class GatedQueryGenerator(BaseModule):
    """Adds learned embeddings, base queries from ``<PER>`` and gated selected features.

    ``content = learned + base + gate · selected``, with the boxes of the selection. Every channel
    has a gate, which starts at zero: training begins as the "mixed query selection" of DINO
    (learned content, selected boxes) and takes in as much of the selected features as helps.

    Args:
        llm_dims: LLM width D.
        embed_dims: Width C.
        num_queries: N.
        gated: False leaves the gate at zero: mixed query selection.
        distinct_iou: Select by NMS, see :class:`DistinctSelection`; None selects the N best.
        candidates: Candidates per query that NMS chooses from.
    """

    def __init__(self, llm_dims: int, embed_dims: int = 256, num_queries: int = 100,
                 gated: bool = True, distinct_iou: float | None = None,
                 candidates: int = 4) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.base = BaseQueries(llm_dims, embed_dims, num_queries)
        self.content = nn.Embedding(num_queries, embed_dims)
        self.gate = nn.Parameter(torch.zeros(embed_dims)) if gated else None
        self.selection = selection(embed_dims, num_queries, distinct_iou, candidates)

    def forward(self, summary: Tensor, state: ImageState, text: Tensor, phrases: Tensor,
                per_image: QueriesPerImage, similarity: nn.Module, box_head: nn.Module) -> QuerySet:
        """See :meth:`DynamicQueryGenerator.forward`."""
        queries = self.selection(state, text, phrases, per_image, similarity, box_head)
        content = self.content.weight + self.base(summary)
        if self.gate is not None:
            content = content + self.gate * queries.content
        queries.content = content
        return queries
