# Copyright (c) mvp_mm authors. All rights reserved.
"""Text projections, similarity and box head of the authors' released code."""
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mvp_mm.models.heads import BoxHead, TextEmbeddings, mlp
from mvp_mm.models.position import inverse_sigmoid
from mvp_mm.models.state import QueriesPerImage
from mvp_mm.registry import MODELS


def split_background(phrase_mask: Tensor, is_word: Tensor) -> tuple[Tensor, Tensor]:
    """Tell the names from the background, which is the last phrase of a word list.

    Args:
        phrase_mask: (R, K) bool.
        is_word: (R,) bool; sentences have no background.

    Returns:
        (R, K) bool mask of the names, and (R,) int64 index of the background; 0 where a row has
        none.
    """
    last = (phrase_mask.sum(1) - 1).clamp(min=0)
    column = torch.arange(phrase_mask.shape[1], device=phrase_mask.device)
    background = (column == last[:, None]) & is_word[:, None]
    return phrase_mask & ~background, torch.where(is_word, last, 0)


class TextProjectors(nn.Module):
    """Projects from the LLM's width by one linear layer for words, another for sentences."""

    def __init__(self, llm_dims: int, embed_dims: int) -> None:
        super().__init__()
        self.word = nn.Linear(llm_dims, embed_dims)
        self.sentence = nn.Linear(llm_dims, embed_dims)

    def forward(self, pooled: Tensor, is_word: Tensor) -> Tensor:
        """(R, K, D) → (R, K, C)."""
        return torch.where(is_word[:, None, None], self.word(pooled), self.sentence(pooled))


@dataclass
class MemorySimilarity:
    """Compares memory tokens with phrases, for the selection of queries.

    Attributes:
        head: The shared similarity head.
        is_word: (R,) bool.
    """

    head: ReleasedSimilarityHead
    is_word: Tensor

    def __call__(self, features: Tensor, text: Tensor, per_image: QueriesPerImage) -> Tensor:
        """Compare tokens (B, S, C) with phrases (R, K, C): products (R, K, S)."""
        packed = per_image.pack(text)
        word, sentence = (per_image.unpack(packed @ project(features).transpose(1, 2))
                          for project in (self.head.word, self.head.sentence))
        return torch.where(self.is_word[:, None, None], word, sentence)


@MODELS.register_module()
class ReleasedSimilarityHead(BaseModule):
    """Scores projected queries against text embeddings: plain products.

    Neither side is normed and there is no scale or bias. Words and sentences have a projection
    of the queries each. "No object" is the word "background", which the LLM reads as the last
    phrase of a word list.

    Args:
        embed_dims: Width C.
    """

    relation: ClassVar[None] = None
    surroundings: ClassVar[None] = None

    def __init__(self, embed_dims: int = 256) -> None:
        super().__init__()
        self.word = mlp(embed_dims, embed_dims, embed_dims)
        self.sentence = mlp(embed_dims, embed_dims, embed_dims)

    def forward(self, queries: Tensor, boxes: Tensor, text: TextEmbeddings) -> Tensor:
        """Compute the similarities of queries and phrases.

        Args:
            queries: (…, R, Q, C).
            boxes: (…, R, Q, 4), not used.
            text: The phrases of R rows, the last of a word list being the background.

        Returns:
            (…, R, Q, K + 1) logits, the last column being the background's. Its place among the
            phrases, masked phrases and the last column of sentences hold the lowest float.
        """
        names, last = split_background(text.mask, text.is_word)
        at = last[:, None, None].expand(-1, 1, text.content.shape[-1])
        columns = torch.cat([text.content, text.content.gather(1, at)], 1)
        is_word = text.is_word[:, None, None]
        visual = torch.where(is_word, self.word(queries), self.sentence(queries))
        logits = visual @ columns.transpose(-1, -2)
        valid = torch.cat([names, text.is_word[:, None]], 1)
        return logits.masked_fill(~valid[:, None], torch.finfo(logits.dtype).min)


@MODELS.register_module()
class ReleasedBoxHead(BoxHead):
    """Corrects reference boxes, whose logits are clamped at 1e-5 as in DETR's decoders.

    Args:
        embed_dims: Width C.
    """

    def forward(self, queries: Tensor, reference: Tensor) -> Tensor:
        """Predict boxes (…, Q, 4) cxcywh in [0, 1] from queries (…, Q, C) and references."""
        return (self.delta(queries) + inverse_sigmoid(reference, eps=1e-5)).sigmoid()
