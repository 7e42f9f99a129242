# Copyright (c) mvp_mm authors. All rights reserved.
"""The training objective (paper section 3.1, "Training Objectives")."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from mmcv.ops import point_sample
from mmdet.models.utils import get_uncertain_point_coords_with_randomness
from torch import Tensor, nn
from torchvision.ops import box_convert, generalized_box_iou_loss

from mvp_mm.models.losses.matcher import pairwise_iou
from mvp_mm.models.losses.means import Mean
from mvp_mm.models.losses.targets import (
    MaskGeometry,
    Matches,
    Predictions,
    Targets,
    masks_at_points,
    masks_on_grid,
)
from mvp_mm.registry import MODELS


def word_loss(logits: Tensor, classes: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy over phrases and "no object".

    Args:
        logits: (S, R, Q, K + 1).
        classes: (S, R, Q) int64 column to predict.
        weight: (S, R, Q), 0 leaves a query out.

    Returns:
        Weighted sum and sum of weights, each (S,).
    """
    loss = F.cross_entropy(logits.flatten(0, 2).float(), classes.flatten(), reduction='none')
    return (loss.view_as(weight) * weight).sum((1, 2)), weight.sum((1, 2))


def sentence_loss(logits: Tensor, positive: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy (S,) of logits (S, R, Q), summed with weights."""
    loss = F.binary_cross_entropy_with_logits(
        logits.float(), positive.float(), reduction='none')
    return (loss * weight).sum((1, 2))


def ranking_loss(logits: Tensor, positive: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy (S,) over the queries of each row: all probability to the positive ones.

    Args:
        logits: (S, R, Q).
        positive: (S, R, Q) bool; rows without any do not count.
        weight: (S, R, Q), 0 leaves a query out.
    """
    lowest = torch.finfo(torch.float32).min
    logits = logits.float().masked_fill(weight == 0, lowest)
    inside = logits.masked_fill(~positive, lowest).logsumexp(-1)
    loss = logits.logsumexp(-1) - inside
    return torch.where(positive.any(-1), loss, 0.0).sum(1)


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Dice loss (n,) of mask values (n, P)."""
    prob = logits.sigmoid()
    return 1 - (2 * (prob * targets).sum(1) + 1) / (prob.sum(1) + targets.sum(1) + 1)


@MODELS.register_module()
class PerceptionCriterion(nn.Module):
    """All perception losses of all supervised sets.

    Boxes are averaged over targets, masks over targets that have one, sentences over sentences,
    the word cross-entropy over its weights; :func:`~mvp_mm.models.losses.means.over_processes`
    divides.

    Args:
        class_weight: Weight of the word cross-entropy and the sentence BCE.
        ranking_weight: Weight of the cross-entropy over the queries of a sentence; 0 gives the
            paper's objective.
        l1_weight: Weight of the box L1 loss.
        giou_weight: Weight of the generalised IoU loss.
        bce_weight: Weight of the mask BCE.
        dice_weight: Weight of the Dice loss.
        no_object_weight: Weight of "no object" in the word cross-entropy.
        positive_iou: In sentence tasks, queries whose box overlaps a target's so much are
            positive beside the matched one: an answer is the best query or the union of many, so
            copies do no harm, and calling them wrong hides what the sentence means. A value
            above 1 gives one positive a target.
        num_points: Points P a mask is compared on; the whole grid when it has no more.
        oversample_ratio: Candidates drawn per point.
        importance_ratio: Share of the points taken where the mask is least certain.
    """

    names = ('loss_word', 'loss_sent', 'loss_rank', 'loss_box_l1', 'loss_box_giou',
             'loss_mask_bce', 'loss_mask_dice')

    def __init__(self, class_weight: float = 2.0, ranking_weight: float = 0.0,
                 l1_weight: float = 5.0, giou_weight: float = 2.0, bce_weight: float = 5.0,
                 dice_weight: float = 5.0, no_object_weight: float = 0.1,
                 positive_iou: float = 1.1,
                 num_points: int = 12544, oversample_ratio: float = 3.0,
                 importance_ratio: float = 0.75) -> None:
        super().__init__()
        self.weights = dict(zip(self.names, (
            class_weight, class_weight, ranking_weight, l1_weight, giou_weight, bce_weight,
            dice_weight), strict=True))
        self.no_object_weight = no_object_weight
        self.positive_iou = positive_iou
        self.num_points = num_points
        self.oversample_ratio = oversample_ratio
        self.importance_ratio = importance_ratio

    def forward(self, predictions: Predictions, targets: Targets, matches: Matches,
                is_word: Tensor, geometry: MaskGeometry, copies: bool = False) -> dict[str, Mean]:
        """Compute the losses of S sets.

        Args:
            predictions: S sets of R rows.
            targets: Targets of the R rows.
            matches: Which query takes which target.
            is_word: (R,) bool.
            geometry: Mask features and the rows' images.
            copies: Whether queries share a target, as in denoising; boxes and masks are then
                averaged over the matches.

        Returns:
            For each of :attr:`names` weighted sums (S,), and counts (S,) or ().
        """
        sets = len(predictions.logits)
        word, word_norm, sent, rank = self._similarity(predictions, targets, matches, is_word)
        box = self._boxes(predictions, targets, matches, sets)
        mask = self._masks(predictions, targets, matches, geometry, sets)
        masked = targets.mask_index >= 0
        if copies:
            ones = torch.ones_like(matches.rows, dtype=torch.float32)
            num_targets = _sum_by(ones, matches.sets, sets)
            num_masks = _sum_by(masked[matches.rows, matches.targets].float(), matches.sets, sets)
        else:
            num_targets, num_masks = targets.valid.sum(), masked.sum()
        num_sentences = (~is_word & predictions.valid.any(2).any(0)).sum()
        means = (Mean(word, word_norm), Mean(sent, num_sentences), Mean(rank, num_sentences),
                 *(Mean(b, num_targets) for b in box), *(Mean(m, num_masks) for m in mask))
        return {name: mean.scaled(self.weights[name])
                for name, mean in zip(self.names, means, strict=True)}

    def _similarity(self, predictions: Predictions, targets: Targets, matches: Matches,
                    is_word: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        logits = predictions.logits
        none = logits.shape[-1] - 1
        at = (matches.sets, matches.rows, matches.queries)
        classes = torch.full(logits.shape[:3], none, device=logits.device)
        classes[at] = targets.labels[matches.rows, matches.targets]
        positive = torch.zeros(logits.shape[:3], dtype=torch.bool, device=logits.device)
        positive[at] = True
        taking_part = predictions.valid.float()
        weight = torch.where(positive, 1.0, self.no_object_weight) * taking_part
        # Sentence rows have no "no object" column; the label 0 keeps their entries finite.
        classes = torch.where(is_word[:, None], classes, 0)
        word, norm = word_loss(logits, classes, weight * is_word[:, None])
        first = torch.where(is_word[:, None], 0.0, logits[..., 0])
        positive = (positive | self._on_target(predictions, targets)) & ~is_word[:, None]
        # Every sentence counts the same, however many queries lie on its targets.
        share = 1 / positive.sum(-1, keepdim=True).clamp(min=1)
        sentence_weight = taking_part * ~is_word[:, None] * share
        return (word, norm, sentence_loss(first, positive, sentence_weight),
                ranking_loss(first, positive, sentence_weight))

    @torch.no_grad()
    def _on_target(self, predictions: Predictions, targets: Targets) -> Tensor:
        """(S, R, Q) bool, queries that take part and lie on a target of their row."""
        iou, _ = pairwise_iou(predictions.boxes.float(), targets.boxes[None])
        near = (iou >= self.positive_iou) & targets.valid[:, None]
        return near.any(-1) & predictions.valid

    @staticmethod
    def _boxes(predictions: Predictions, targets: Targets, matches: Matches,
               sets: int) -> tuple[Tensor, Tensor]:
        predicted = predictions.boxes[matches.sets, matches.rows, matches.queries].float()
        wanted = targets.boxes[matches.rows, matches.targets]
        l1 = (predicted - wanted).abs().sum(-1)
        giou = generalized_box_iou_loss(
            box_convert(predicted, 'cxcywh', 'xyxy'), box_convert(wanted, 'cxcywh', 'xyxy'))
        return _sum_by(l1, matches.sets, sets), _sum_by(giou, matches.sets, sets)

    def _masks(self, predictions: Predictions, targets: Targets, matches: Matches,
               geometry: MaskGeometry, sets: int) -> tuple[Tensor, Tensor]:
        matches = matches.where(targets.mask_index[matches.rows, matches.targets] >= 0)
        embed = predictions.mask_embed[matches.sets, matches.rows, matches.queries]
        if not len(matches):
            # Keeps mask head and mask features in the graph: every process runs every module.
            zero = (predictions.mask_embed.sum() + geometry.features.sum()) * 0
            return zero.expand(sets), zero.expand(sets)
        logits = geometry.logits(embed, matches.rows).float()
        values, wanted = self._mask_values(
            logits, targets.masks, targets.mask_index[matches.rows, matches.targets])
        bce = F.binary_cross_entropy_with_logits(values, wanted, reduction='none').mean(1)
        dice = dice_loss(values, wanted)
        return _sum_by(bce, matches.sets, sets), _sum_by(dice, matches.sets, sets)

    def _mask_values(self, logits: Tensor, masks: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted and true values (n, P) where the masks are compared."""
        size = logits.shape[-2:]
        if size.numel() <= self.num_points:
            return logits.flatten(1), masks_on_grid(masks, size).flatten(1)[index]
        logits = logits[:, None]
        with torch.no_grad():
            points = get_uncertain_point_coords_with_randomness(
                logits, None, self.num_points, self.oversample_ratio, self.importance_ratio)
        return point_sample(logits, points)[:, 0], masks_at_points(masks, index, points)


def _sum_by(values: Tensor, group: Tensor, groups: int) -> Tensor:
    return values.new_zeros(groups).index_add(0, group, values)
