# Copyright (c) mvp_mm authors. All rights reserved.
"""Hungarian matching of all supervised sets and instructions at once."""
from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import box_convert

from mvp_mm.models.losses.sampling import SampledMasks
from mvp_mm.models.losses.targets import Matches, Predictions, Targets
from mvp_mm.models.state import QueriesPerImage
from mvp_mm.registry import TASK_UTILS


def iou_and_giou(a: Tensor, b: Tensor, soften: float = 0.0) -> tuple[Tensor, Tensor]:
    """Compute IoU and generalised IoU of xyxy boxes; nothing waits for the device.

    Args:
        a: (…, 4).
        b: (…, 4), broadcast with ``a``.
        soften: Added to the areas that are divided by.
    """
    inter = (torch.minimum(a[..., 2:], b[..., 2:])
             - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    hull = (torch.maximum(a[..., 2:], b[..., 2:])
            - torch.minimum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    union = ((a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inter)
    eps = torch.finfo(a.dtype).eps
    iou = inter / (union + soften).clamp(min=eps)
    return iou, iou - (hull - union) / (hull + soften).clamp(min=eps)


def pairwise_iou(a: Tensor, b: Tensor, soften: float = 0.0) -> tuple[Tensor, Tensor]:
    """Compute IoU and GIoU (…, Q, G) of cxcywh boxes (…, Q, 4) and (…, G, 4)."""
    a, b = (box_convert(x, 'cxcywh', 'xyxy') for x in (a, b))
    return iou_and_giou(a[..., :, None, :], b[..., None, :, :], soften)


def pairwise_mask_costs(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Compute BCE and Dice costs of sampled masks, each by one matrix product.

    Args:
        logits: (…, Q, P) predicted values at P points.
        targets: (…, G, P) in [0, 1].

    Returns:
        Two (…, Q, G) tensors. BCE(x, t) = softplus(x) - x·t, averaged over points.
    """
    across = targets.transpose(-1, -2)
    bce = (F.softplus(logits).sum(-1, keepdim=True) - logits @ across) / logits.shape[-1]
    prob = logits.sigmoid()
    total = prob.sum(-1, keepdim=True) + targets.sum(-1)[..., None, :]
    return bce, 1 - (2 * prob @ across + 1) / (total + 1)


@TASK_UTILS.register_module()
class HungarianMatcher(nn.Module):
    """Assigns targets to queries, for every supervised set and instruction.

    There is one cost tensor, copied to the host once.

    Things go to dynamic queries and, in rows with stuff queries, stuff to those.

    Args:
        class_weight: Weight of the (negative) probability of the target's phrase, in word lists
            and sentences alike.
        l1_weight: Weight of the L1 distance of normalised boxes.
        giou_weight: Weight of the generalised IoU.
        bce_weight: Weight of the mask cross-entropy.
        dice_weight: Weight of the Dice cost.
        num_points: Points P that masks are compared on, of those that the criterion samples.

    Attributes:
        saw_bad_costs: Whether costs were not finite since it was last set to False.
    """

    forbidden = 1e6

    def __init__(self, class_weight: float = 2.0, l1_weight: float = 5.0,
                 giou_weight: float = 2.0, bce_weight: float = 5.0, dice_weight: float = 5.0,
                 num_points: int = 12544) -> None:
        super().__init__()
        self.class_weight = class_weight
        self.l1_weight = l1_weight
        self.giou_weight = giou_weight
        self.bce_weight = bce_weight
        self.dice_weight = dice_weight
        self.num_points = num_points
        self.saw_bad_costs = False

    @torch.no_grad()
    def forward(self, predictions: Predictions, targets: Targets, is_word: Tensor,
                masks: SampledMasks) -> Matches:
        """Solve all assignments.

        Args:
            predictions: S sets of R rows.
            targets: Targets of the R rows.
            is_word: (R,) bool.
            masks: Where masks are compared.
        """
        from scipy.optimize import linear_sum_assignment

        cost = self.cost(predictions, targets, is_word, masks)
        allowed = self.eligible(predictions, targets)
        table = cost.masked_fill(~allowed, self.forbidden).cpu().numpy()
        finite = np.isfinite(table)
        if not finite.all():
            # An error here would leave the other ranks waiting. Such pairs are matched somehow:
            # their losses, or this flag, then name the batch.
            self.saw_bad_costs = True
            table = np.where(finite, table, 0.0)
        counts = targets.on_host.count.tolist()
        found = []
        for s in range(table.shape[0]):
            for r, n in enumerate(counts):
                if not n:
                    continue
                problem = table[s, r, :, :n]
                for q, g in zip(*linear_sum_assignment(problem), strict=True):
                    if problem[q, g] < self.forbidden / 2:
                        found.append((s, r, q, g))
        index = np.array(found, dtype=np.int64).reshape(-1, 4).T
        return Matches.on_device(np.ascontiguousarray(index), cost.device)

    @staticmethod
    def eligible(predictions: Predictions, targets: Targets) -> Tensor:
        """Tell which query may take which target, (S, R, Q, G) bool."""
        queries = predictions.valid.shape[-1]
        stuff_query = torch.arange(queries, device=targets.valid.device) >= predictions.num_dynamic
        same_side = stuff_query[None, :, None] == targets.is_stuff[:, None, :]
        return predictions.valid[..., None] & (same_side & targets.valid[:, None, :])

    def cost(self, predictions: Predictions, targets: Targets, is_word: Tensor,
             masks: SampledMasks) -> Tensor:
        """Compute (S, R, Q, G) float32 costs, in full precision under autocast too."""
        with torch.autocast(predictions.logits.device.type, enabled=False):
            return self._cost(predictions, targets, is_word, masks)

    def _cost(self, predictions: Predictions, targets: Targets, is_word: Tensor,
              masks: SampledMasks) -> Tensor:
        cost = self.class_weight * self.class_cost(predictions.logits.float(), targets, is_word)
        l1, giou = self.box_costs(predictions.boxes.float(), targets)
        cost += self.l1_weight * l1 + self.giou_weight * giou
        if len(targets.masks):
            cost += self._mask_cost(predictions, targets, masks)
        return cost

    def class_cost(self, logits: Tensor, targets: Targets, is_word: Tensor) -> Tensor:
        """Compute the negative probability (S, R, Q, G) of the targets' phrases."""
        prob = torch.where(is_word[:, None, None], logits.softmax(-1), logits.sigmoid())
        pick = targets.labels[None, :, None].expand(*logits.shape[:3], -1)
        return -prob.gather(-1, pick)

    def box_costs(self, boxes: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """Compute L1 distance and negative generalised IoU, each (S, R, Q, G)."""
        wanted = targets.boxes[None]
        l1 = (boxes[..., :, None, :] - wanted[..., None, :, :]).abs().sum(-1)
        return l1, -pairwise_iou(boxes, wanted)[1]

    def _mask_cost(self, predictions: Predictions, targets: Targets,
                   masks: SampledMasks) -> Tensor:
        features, truth = masks.uniform(self.num_points)
        rows = QueriesPerImage(masks.image_index, len(features), masks.index_on_host)
        # One slot for every row that an image could have: the costs alone are brought back.
        wanted = rows.pack(truth[targets.mask_index.clamp(min=0)])
        wanted = wanted.view(-1, targets.labels.shape[1], truth.shape[1])
        total = []
        for embed in predictions.mask_embed.float():
            values = rows.pack(embed) @ features.transpose(1, 2)
            bce, dice = pairwise_mask_costs(
                values.view(len(wanted), -1, values.shape[-1]), wanted)
            total.append(self.bce_weight * bce + self.dice_weight * dice)
        has_mask = (targets.mask_index >= 0)[None, :, None]
        cost = torch.stack(total).index_select(1, rows.slot)
        return torch.where(has_mask, cost, 0.0)
