# Copyright (c) mvp_mm authors. All rights reserved.
"""Text embeddings, and the queries that are compared with them."""
from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class TextEmbeddings:
    """The phrases of R instructions as the similarity head compares them.

    Attributes:
        content: (R, K, C), what a phrase names.
        relation: (R, K, C), which one of those a sentence means; None where it is not to count.
        mask: (R, K) bool, False where a row has fewer phrases.
        is_word: (R,) bool, rows that are word lists.
        surroundings: (R, K, D') what a sentence says of a thing's surroundings; None where it is
            not to count.
    """

    content: Tensor
    relation: Tensor | None
    mask: Tensor
    is_word: Tensor
    surroundings: Tensor | None = None

    def content_only(self) -> TextEmbeddings:
        """Leave relation and surroundings out."""
        return replace(self, relation=None, surroundings=None)

    def with_copies(self, source: Tensor) -> TextEmbeddings:
        """Append rows ``source`` (W,) once more."""
        return TextEmbeddings(*(
            None if x is None else torch.cat([x, x[source]])
            for x in (self.content, self.relation, self.mask, self.is_word, self.surroundings)))


@dataclass
class DecodedQueries:
    """The last decoder layer's queries of R instructions, before they are compared with phrases.

    Attributes:
        states: (R, Q, C), or as :meth:`SimilarityHead.describe` gives them.
        boxes: (R, Q, 4) cxcywh in [0, 1].
        masks: (R, Q, h, w) logits.
        text: The phrases of the R instructions.
    """

    states: Tensor
    boxes: Tensor
    masks: Tensor
    text: TextEmbeddings


def text_mlp(llm_dims: int, embed_dims: int) -> nn.Sequential:
    """Build the MLP from the LLM's width to that of the decoder."""
    return nn.Sequential(
        nn.Linear(llm_dims, embed_dims), nn.GELU(), nn.Linear(embed_dims, embed_dims))


@torch.no_grad()
def mean_phrase_cosine(text: Tensor, phrase_mask: Tensor) -> Tensor:
    """Compute the mean cosine between embeddings of different phrases of one list; for the log.

    Near 1 means that the LLM does not tell the names apart, whatever the decoder does.

    Args:
        text: (R, K, C).
        phrase_mask: (R, K) bool.
    """
    unit = F.normalize(text.float(), dim=-1)
    pairs = phrase_mask[:, :, None] & phrase_mask[:, None]
    pairs = pairs & ~torch.eye(text.shape[1], dtype=torch.bool, device=text.device)
    return ((unit @ unit.transpose(1, 2)) * pairs).sum() / pairs.sum().clamp(min=1)
