# Copyright (c) mvp_mm authors. All rights reserved.
"""The three heads that every decoder layer and the query selection share (paper section 3.1)."""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mvp_mm.models.heads.surroundings import SurroundingsSimilarity
from mvp_mm.models.heads.text_embeddings import TextEmbeddings
from mvp_mm.models.position import inverse_sigmoid, sine_embedding
from mvp_mm.registry import MODELS


def mlp(*widths: int) -> nn.Sequential:
    """Build linear layers of the given widths with ReLU between them."""
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        layers += [nn.ReLU()] * (i > 0) + [nn.Linear(a, b)]
    return nn.Sequential(*layers)


def cosines(unit: Tensor, text: Tensor) -> Tensor:
    """Compute cosines (…, Q, K) of unit vectors (…, Q, C) and text (…, K, C), in float32.

    In bfloat16, scaled cosines would be rounded to steps of 1/16 to 1/4, and queries would tie.
    """
    with torch.autocast(unit.device.type, enabled=False):
        return unit.float() @ F.normalize(text.float(), dim=-1).transpose(-1, -2)


@MODELS.register_module()
class SimilarityHead(BaseModule):
    """Scores visual embeddings against text embeddings: scaled cosines.

    Word lists get one more column, a learned "no object"; sentences a learned bias that starts
    at the log-odds of one target among the queries. With ``relation`` the similarity of sentences
    is the sum of two cosines: the one that word lists have too, and one of a relation embedding
    with a visual embedding that knows the query's box. Category and location compete in a single
    cosine: names are learned first, and whatever else is in the embedding lowers their cosine.
    With ``surroundings`` a third term reads what lies around the box: the queries of things do not
    tell the ground on which they lie.

    Args:
        embed_dims: Width C.
        init_scale: Initial factor on the cosine; half of it on the relation's.
        prior_queries: Number of queries that the sentence bias starts from.
        relation: Whether sentences have the second, location-aware cosine; without it, the
            paper's head.
        surroundings: Width of the projections of the third term; 0 for none.
    """

    max_scale = 100.0

    def __init__(self, embed_dims: int = 256, init_scale: float = 14.0,
                 prior_queries: int = 100, relation: bool = False, surroundings: int = 0) -> None:
        super().__init__()
        self.embed_dims = embed_dims
        self.visual = mlp(embed_dims, embed_dims, embed_dims)
        self.no_object = nn.Parameter(torch.randn(embed_dims))
        self.log_scale = nn.Parameter(torch.tensor(math.log(init_scale)))
        self.sentence_bias = nn.Parameter(torch.tensor(-math.log(prior_queries - 1.0)))
        self.relation: RelationSimilarity | None = (
            RelationSimilarity(embed_dims, init_scale / 2) if relation else None)
        self.surroundings: SurroundingsSimilarity | None = (
            SurroundingsSimilarity(embed_dims, surroundings) if surroundings else None)

    @property
    def scale(self) -> Tensor:
        """Return the learned factor () of the cosines, bounded."""
        return self.log_scale.exp().clamp(max=self.max_scale)

    def embed(self, features: Tensor) -> Tensor:
        """Embed visual features (…, C) as unit vectors (…, C)."""
        return F.normalize(self.visual(features), dim=-1)

    def forward(self, queries: Tensor, boxes: Tensor, text: TextEmbeddings) -> Tensor:
        """Compute the similarities of queries and phrases.

        Args:
            queries: (…, R, Q, C), or (…, R, Q, 2 C) with the surroundings behind, where they count.
            boxes: (…, R, Q, 4) their boxes cxcywh in [0, 1]; they get no gradient.
            text: The phrases of R rows.

        Returns:
            (…, R, Q, K + 1) logits, the last column being "no object". Masked phrases, and
            "no object" in sentence rows, hold the lowest float; in sentence rows the bias is in.
        """
        queries, around = queries[..., :self.embed_dims], queries[..., self.embed_dims:]
        columns = torch.cat(
            [text.content, self.no_object.expand(text.content.shape[0], 1, -1)], 1)
        logits = self.scale * cosines(self.embed(queries), columns)
        logits = logits + torch.where(text.is_word, 0.0, self.sentence_bias)[:, None, None]
        if self.relation is not None and text.relation is not None:
            related = self.relation(queries, boxes.detach(), text.relation)
            logits = logits + F.pad(related * ~text.is_word[:, None, None], (0, 1))
        if self.surroundings is not None and text.surroundings is not None:
            found = self.surroundings(around, text.surroundings)
            logits = logits + F.pad(found * ~text.is_word[:, None, None], (0, 1))
        valid = torch.cat([text.mask, text.is_word[:, None]], 1)
        return logits.masked_fill(~valid[:, None], torch.finfo(logits.dtype).min)


class RelationSimilarity(nn.Module):
    """Scores relation embeddings against queries with a box code: scaled cosines."""

    def __init__(self, embed_dims: int, init_scale: float) -> None:
        super().__init__()
        # Normed, as the states of the queries are.
        self.position = nn.Sequential(
            mlp(2 * embed_dims, embed_dims, embed_dims), nn.LayerNorm(embed_dims))
        self.visual = mlp(embed_dims, embed_dims, embed_dims)
        self.log_scale = nn.Parameter(torch.tensor(math.log(init_scale)))

    def forward(self, queries: Tensor, boxes: Tensor, relation: Tensor) -> Tensor:
        """Score (…, R, Q, K) queries (…, R, Q, C) with boxes (…, R, Q, 4) by relation (R, K, C)."""
        code = sine_embedding(boxes, queries.shape[-1] // 2).to(queries.dtype)
        located = F.normalize(self.visual(queries + self.position(code)), dim=-1)
        scale = self.log_scale.exp().clamp(max=SimilarityHead.max_scale)
        return scale * cosines(located, relation)


@MODELS.register_module()
class BoxHead(BaseModule):
    """Refines reference boxes."""

    def __init__(self, embed_dims: int = 256) -> None:
        super().__init__()
        self.delta = mlp(embed_dims, embed_dims, embed_dims, 4)
        nn.init.zeros_(self.delta[-1].weight)
        nn.init.zeros_(self.delta[-1].bias)

    def forward(self, queries: Tensor, reference: Tensor) -> Tensor:
        """Predict boxes (…, Q, 4) cxcywh in [0, 1] from queries (…, Q, C) and references."""
        return (self.delta(queries) + inverse_sigmoid(reference)).sigmoid()


@MODELS.register_module()
class MaskHead(BaseModule):
    """Predicts mask embeddings; a mask is their product with the mask features."""

    def __init__(self, embed_dims: int = 256) -> None:
        super().__init__()
        self.embedding = mlp(embed_dims, embed_dims, embed_dims, embed_dims)

    def forward(self, queries: Tensor) -> Tensor:
        """Predict mask embeddings (…, Q, C) from queries (…, Q, C)."""
        return self.embedding(queries)
