# Copyright (c) mvp_mm authors. All rights reserved.
"""The training objective of the authors' released code."""
from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from mvp_mm.models.losses.criterion import PerceptionCriterion
from mvp_mm.models.losses.matcher import iou_and_giou
from mvp_mm.models.losses.sampling import features_at_points
from mvp_mm.models.losses.targets import Matches, Predictions, Targets
from mvp_mm.models.released.matcher import GIOU_SOFTENING
from mvp_mm.registry import MODELS


@MODELS.register_module()
class ReleasedCriterion(PerceptionCriterion):
    """Weighs sentences a tenth with their targets up, and leaves the boxes of stuff out.

    True masks are read between pixels, as predicted ones are. The code draws the points of every
    mask anew; here all masks of a batch share them, as in :class:`PerceptionCriterion`.

    Args:
        sentence_share: Factor on the sentence BCE.
        normalization: See :class:`PerceptionCriterion`; the code divides by the targets of the
            batch.
        **settings: See :class:`PerceptionCriterion`.
    """

    def __init__(self, sentence_share: float = 0.1,
                 normalization: Literal['images', 'targets'] = 'targets',
                 **settings: Any) -> None:
        super().__init__(normalization=normalization, **settings)
        self.sentence_share = sentence_share

    def query_weight(self, positive: Tensor, taking_part: Tensor) -> Tensor:
        """As in :class:`PerceptionCriterion`: a mean over queries, targets as heavy as the rest."""
        queries = taking_part.sum(-1, keepdim=True).clamp(min=1)
        targets = positive.sum((1, 2), keepdim=True).clamp(min=1)
        heavy = (taking_part.sum((1, 2), keepdim=True) - targets) / targets
        return self.sentence_share * taking_part * torch.where(positive, heavy, 1.0) / queries

    @staticmethod
    def giou_loss(predicted: Tensor, wanted: Tensor) -> Tensor:
        """(n,) losses of xyxy boxes (n, 4)."""
        return 1 - iou_and_giou(predicted, wanted, GIOU_SOFTENING)[1]

    def box_losses(self, predictions: Predictions, targets: Targets,
                   matches: Matches) -> tuple[Tensor, Tensor]:
        """As in :class:`PerceptionCriterion`, those of stuff left out."""
        things = ~targets.is_stuff[matches.rows, matches.targets]
        return super().box_losses(predictions, targets, matches.where(things))

    @staticmethod
    def truth_at(masks: Tensor, points: Tensor) -> Tensor:
        """Read masks (n, H, W) at points (P, 2) bilinearly: (n, P)."""
        if not len(masks):
            return points.new_zeros(0, len(points))
        return features_at_points(masks[None].float(), points)[0].T
