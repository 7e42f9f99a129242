# Copyright (c) mvp_mm authors. All rights reserved.
"""The training objective (paper section 3.1, "Training Objectives")."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import box_convert

from mvp_mm.models.losses.matcher import iou_and_giou, pairwise_iou
from mvp_mm.models.losses.sampling import (
    SampledMasks,
    features_at_points,
    masks_at_points,
    uncertain,
)
from mvp_mm.models.losses.targets import Matches, Predictions, Targets
from mvp_mm.models.losses.weighted_sum import WeightedSum
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
    the word cross-entropy over its weights;
    :func:`~mvp_mm.models.losses.weighted_sum.reduce_over_ranks` divides.

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

    truth_at = staticmethod(masks_at_points)
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

    def sample(self, features: Tensor, targets: Targets, image_index: Tensor) -> SampledMasks:
        """Choose where masks are compared, once for all sets, the matching and denoising.

        Args:
            features: (B, C, h, w) mask features.
            targets: Targets of R rows.
            image_index: (R,) int64, the image of each row.
        """
        if features.shape[-2:].numel() <= self.num_points:
            return SampledMasks.on_grid(features, targets.masks, image_index)
        candidates = int(self.num_points * self.oversample_ratio)
        always = self.num_points - int(self.num_points * self.importance_ratio)
        points = torch.rand(candidates + always, 2, device=features.device)
        return SampledMasks(
            features_at_points(features.float(), points), self.truth_at(targets.masks, points),
            image_index, candidates)

    def forward(self, predictions: Predictions, targets: Targets, matches: Matches,
                is_word: Tensor, masks: SampledMasks,
                one_to_many: bool = False) -> dict[str, WeightedSum]:
        """Compute the losses of S sets.

        Args:
            predictions: S sets of R rows.
            targets: Targets of the R rows.
            matches: Which query takes which target.
            is_word: (R,) bool.
            masks: Where masks are compared; see :meth:`sample`.
            one_to_many: Whether several queries take one target, as in denoising; boxes and
                masks are then averaged over the matches.

        Returns:
            For each of :attr:`names` weighted sums (S,), and counts (S,) or ().
        """
        sets = len(predictions.logits)
        word, word_norm, sent, rank = self._similarity(predictions, targets, matches, is_word)
        box = self.box_losses(predictions, targets, matches, sets)
        mask = self._masks(predictions, targets, matches, masks, sets)
        masked = targets.mask_index >= 0
        if one_to_many:
            ones = torch.ones_like(matches.rows, dtype=torch.float32)
            num_targets = _sum_by(ones, matches.sets, sets)
            num_masks = _sum_by(masked[matches.rows, matches.targets].float(), matches.sets, sets)
        else:
            num_targets, num_masks = targets.valid.sum(), masked.sum()
        num_sentences = (~is_word & predictions.valid.any(2).any(0)).sum()
        counts = (word_norm, num_sentences, num_sentences, num_targets, num_targets, num_masks,
                  num_masks)
        return {name: WeightedSum(total, count).scaled(self.weights[name])
                for name, total, count in zip(
                    self.names, (word, sent, rank, *box, *mask), counts, strict=True)}

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
        sentence_weight = self.sentence_weight(positive, taking_part * ~is_word[:, None])
        return (word, norm, sentence_loss(first, positive, sentence_weight),
                ranking_loss(first, positive, sentence_weight))

    def sentence_weight(self, positive: Tensor, taking_part: Tensor) -> Tensor:
        """Weights (S, R, Q) of the sentences' queries; every sentence counts the same.

        Args:
            positive: (S, R, Q) bool, queries on a target.
            taking_part: (S, R, Q) float, zero elsewhere and in word lists.
        """
        return taking_part / positive.sum(-1, keepdim=True).clamp(min=1)

    @torch.no_grad()
    def _on_target(self, predictions: Predictions, targets: Targets) -> Tensor:
        """(S, R, Q) bool, queries that take part and lie on a target of their row."""
        iou, _ = pairwise_iou(predictions.boxes.float(), targets.boxes[None])
        near = (iou >= self.positive_iou) & targets.valid[:, None]
        return near.any(-1) & predictions.valid

    def box_losses(self, predictions: Predictions, targets: Targets, matches: Matches,
               sets: int) -> tuple[Tensor, Tensor]:
        predicted = predictions.boxes[matches.sets, matches.rows, matches.queries].float()
        wanted = targets.boxes[matches.rows, matches.targets]
        l1 = (predicted - wanted).abs().sum(-1)
        giou = self.giou_loss(
            box_convert(predicted, 'cxcywh', 'xyxy'), box_convert(wanted, 'cxcywh', 'xyxy'))
        return _sum_by(l1, matches.sets, sets), _sum_by(giou, matches.sets, sets)

    @staticmethod
    def giou_loss(predicted: Tensor, wanted: Tensor) -> Tensor:
        """(n,) losses of xyxy boxes (n, 4)."""
        return 1 - iou_and_giou(predicted, wanted)[1]

    def _masks(self, predictions: Predictions, targets: Targets, matches: Matches,
               masks: SampledMasks, sets: int) -> tuple[Tensor, Tensor]:
        matches = matches.where(targets.mask_index[matches.rows, matches.targets] >= 0)
        matches = matches.take(masks.by_image(matches.rows))
        embed = predictions.mask_embed[matches.sets, matches.rows, matches.queries]
        logits = masks.logits(embed, matches.rows)
        truth = masks.truth[targets.mask_index[matches.rows, matches.targets]]
        values, wanted = self._compared(logits, truth, masks.num_candidates)
        bce = F.binary_cross_entropy_with_logits(values, wanted, reduction='none').mean(1)
        dice = dice_loss(values, wanted)
        return _sum_by(bce, matches.sets, sets), _sum_by(dice, matches.sets, sets)

    def _compared(self, logits: Tensor, truth: Tensor, candidates: int | None
                  ) -> tuple[Tensor, Tensor]:
        """Of (n, P) values those that count: the least certain candidates and the rest."""
        if candidates is None:
            return logits, truth
        hard = uncertain(logits[:, :candidates], int(self.num_points * self.importance_ratio))
        return tuple(torch.cat([x[:, :candidates].gather(1, hard), x[:, candidates:]], 1)
                     for x in (logits, truth))


def _sum_by(values: Tensor, group: Tensor, groups: int) -> Tensor:
    return values.new_zeros(groups).index_add(0, group, values)
