# Copyright (c) mvp_mm authors. All rights reserved.
"""The three heads that every decoder layer and the query selection share (paper section 3.1)."""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mvp_mm.models.position import inverse_sigmoid
from mvp_mm.registry import MODELS


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers of the given widths with ReLU between them."""
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        layers += [nn.ReLU()] * (i > 0) + [nn.Linear(a, b)]
    return nn.Sequential(*layers)


@MODELS.register_module()
class SimilarityHead(BaseModule):
    """Scores visual embeddings against text embeddings: a scaled cosine.

    Word lists get one more column, a learned "no object"; sentences a learned bias that starts
    at the log-odds of one target among the queries.

    Args:
        embed_dims: Width C.
        init_scale: Initial factor on the cosine.
        prior_queries: Number of queries that the sentence bias starts from.
    """

    max_scale = 100.0

    def __init__(self, embed_dims: int = 256, init_scale: float = 14.0,
                 prior_queries: int = 100) -> None:
        super().__init__()
        self.visual = mlp(embed_dims, embed_dims, embed_dims)
        self.no_object = nn.Parameter(torch.randn(embed_dims))
        self.log_scale = nn.Parameter(torch.tensor(math.log(init_scale)))
        self.sentence_bias = nn.Parameter(torch.tensor(-math.log(prior_queries - 1.0)))

    @property
    def scale(self) -> Tensor:
        return self.log_scale.exp().clamp(max=self.max_scale)

    def embed(self, features: Tensor) -> Tensor:
        """Unit embeddings (…, C) of visual features (…, C)."""
        return F.normalize(self.visual(features), dim=-1)

    def forward(self, queries: Tensor, text: Tensor, phrase_mask: Tensor,
                is_word: Tensor) -> Tensor:
        """Similarities of queries and phrases.

        Args:
            queries: (…, R, Q, C).
            text: (R, K, C) text embeddings.
            phrase_mask: (R, K) bool.
            is_word: (R,) bool.

        Returns:
            (…, R, Q, K + 1) logits, the last column being "no object". Masked phrases, and
            "no object" in sentence rows, hold the lowest float; in sentence rows the bias is in.
        """
        columns = torch.cat([text, self.no_object.expand(len(text), 1, -1)], 1)
        columns = F.normalize(columns, dim=-1)
        logits = self.scale * self.embed(queries) @ columns.transpose(-1, -2)
        logits = logits + torch.where(is_word, 0.0, self.sentence_bias)[:, None, None]
        valid = torch.cat([phrase_mask, is_word[:, None]], 1)
        return logits.masked_fill(~valid[:, None], torch.finfo(logits.dtype).min)


@MODELS.register_module()
class BoxHead(BaseModule):
    """Corrects reference boxes."""

    def __init__(self, embed_dims: int = 256) -> None:
        super().__init__()
        self.delta = mlp(embed_dims, embed_dims, embed_dims, 4)
        nn.init.zeros_(self.delta[-1].weight)
        nn.init.zeros_(self.delta[-1].bias)

    def forward(self, queries: Tensor, reference: Tensor) -> Tensor:
        """Boxes (…, Q, 4) cxcywh in [0, 1] from queries (…, Q, C) and their references."""
        return (self.delta(queries) + inverse_sigmoid(reference)).sigmoid()


@MODELS.register_module()
class MaskHead(BaseModule):
    """Mask embeddings; a mask is their product with the mask features."""

    def __init__(self, embed_dims: int = 256) -> None:
        super().__init__()
        self.embedding = mlp(embed_dims, embed_dims, embed_dims, embed_dims)

    def forward(self, queries: Tensor) -> Tensor:
        """Mask embeddings (…, Q, C) of queries (…, Q, C)."""
        return self.embedding(queries)
