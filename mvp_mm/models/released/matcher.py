# Copyright (c) mvp_mm authors. All rights reserved.
"""Hungarian matching of the authors' released code."""
from __future__ import annotations

import torch
from torch import Tensor

from mvp_mm.models.losses.matcher import HungarianMatcher, pairwise_iou
from mvp_mm.models.losses.targets import Targets
from mvp_mm.registry import TASK_UTILS

# Boxes are normalised, so that small ones are affected.
GIOU_SOFTENING = 1e-6


@TASK_UTILS.register_module()
class ReleasedMatcher(HungarianMatcher):
    """Matches sentences by boxes and masks alone, stuff by names and masks.

    The box terms of stuff are all the same: the mean over the row's queries and things.
    """

    def class_cost(self, logits: Tensor, targets: Targets, is_word: Tensor) -> Tensor:
        """As in :class:`HungarianMatcher`; zero for sentences."""
        return super().class_cost(logits, targets, is_word) * is_word[:, None, None]

    def box_costs(self, boxes: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """As in :class:`HungarianMatcher`, stuff aside."""
        l1, _ = super().box_costs(boxes, targets)
        _, giou = pairwise_iou(boxes, targets.boxes[None], GIOU_SOFTENING)
        things = (targets.valid & ~targets.is_stuff)[:, None].to(l1.dtype)
        many = (things.sum((1, 2)) * l1.shape[2]).clamp(min=1)[:, None, None]
        return tuple(
            torch.where(targets.is_stuff[:, None],
                        (cost * things).sum((2, 3), keepdim=True) / many, cost)
            for cost in (l1, -giou))
