# Copyright (c) mvp_mm authors. All rights reserved.
"""The training objective (paper section 3.1, "Training Objectives")."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import box_convert

from mvp_mm.models.building import check_choice
from mvp_mm.models.losses.matcher import iou_and_giou, pairwise_iou
from mvp_mm.models.losses.sampling import (
    SampledMasks,
    features_at_points,
    masks_at_points,
    uncertain,
)
from mvp_mm.models.losses.targets import Matches, Predictions, Targets
from mvp_mm.models.losses.weighted_sum import ImageShares, WeightedSum
from mvp_mm.registry import MODELS


def word_loss(logits: Tensor, classes: Tensor, weight: Tensor) -> Tensor:
    """Compute the cross-entropy over phrases and "no object".

    Args:
        logits: (S, R, Q, K + 1).
        classes: (S, R, Q) int64 column to predict.
        weight: (S, R, Q), 0 leaves a query out.

    Returns:
        (S, R) weighted sums over the queries.
    """
    loss = F.cross_entropy(logits.flatten(0, 2).float(), classes.flatten(), reduction='none')
    return (loss.view_as(weight) * weight).sum(2)


def sentence_loss(logits: Tensor, positive: Tensor, weight: Tensor) -> Tensor:
    """Compute the binary cross-entropy (S, R) of logits (S, R, Q), summed with weights."""
    loss = F.binary_cross_entropy_with_logits(
        logits.float(), positive.float(), reduction='none')
    return (loss * weight).sum(2)


def ranking_loss(logits: Tensor, positive: Tensor, weight: Tensor) -> Tensor:
    """Compute the cross-entropy over the queries of each row, with all probability on positives.

    Args:
        logits: (S, R, Q).
        positive: (S, R, Q) bool; rows without any have no loss.
        weight: (S, R, Q), 0 leaves a query out.

    Returns:
        (S, R).
    """
    lowest = torch.finfo(torch.float32).min
    logits = logits.float().masked_fill(weight == 0, lowest)
    inside = logits.masked_fill(~positive, lowest).logsumexp(-1)
    loss = logits.logsumexp(-1) - inside
    return torch.where(positive.any(-1), loss, 0.0)


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the Dice loss (n,) of mask values (n, P)."""
    prob = logits.sigmoid()
    return 1 - (2 * (prob * targets).sum(1) + 1) / (prob.sum(1) + targets.sum(1) + 1)


@MODELS.register_module()
class PerceptionCriterion(nn.Module):
    """Computes the perception losses of all supervised sets (auxiliary losses included).

    The defaults are the paper's terms and weights (table 2). What the losses are averaged over is
    a choice, which decides how much a dataset weighs:

    - ``'images'``: each over its row (its targets, its queries), rows over those of their image,
      images over the global batch. A dataset then weighs as its share of the images, whatever
      shares the batch, and the gradient of a row depends on the number of images alone.
    - ``'targets'``: boxes over all targets of the global batch, masks over those that have one,
      sentences over sentences, the word cross-entropy over its weights. A crowded image then
      takes the weight of those beside it.

    :func:`~mvp_mm.models.losses.weighted_sum.reduce_over_ranks` divides.

    Args:
        word_weight: Weight of the word cross-entropy.
        sentence_weight: Weight of the sentence BCE.
        ranking_weight: Weight of the cross-entropy over the queries of a sentence, which the
            paper does not have.
        l1_weight: Weight of the box L1 loss.
        giou_weight: Weight of the generalised IoU loss.
        bce_weight: Weight of the mask BCE.
        dice_weight: Weight of the Dice loss.
        no_object_weight: Weight of "no object" in the word cross-entropy.
        positive_iou: In sentence tasks, queries whose box overlaps a target's so much are
            positive beside the matched one. None gives one positive per target.
        num_points: Points P a mask is compared on; the whole grid when it has no more.
        oversample_ratio: Candidates drawn per point.
        importance_ratio: Share of the points taken where the mask is least certain.
        sentence_reduction: ``'mean'`` of the BCE over the queries of a sentence, or ``'sum'``
            over them divided by its positive queries (about Q times as much).
        normalization: ``'images'`` or ``'targets'``, see above.

    Raises:
        ValueError: If a choice is unknown or ``positive_iou`` is no overlap.
    """

    truth_at = staticmethod(masks_at_points)
    names = ('loss_word', 'loss_sent', 'loss_rank', 'loss_box_l1', 'loss_box_giou',
             'loss_mask_bce', 'loss_mask_dice')

    def __init__(self, word_weight: float = 2.0, sentence_weight: float = 2.0,
                 ranking_weight: float = 0.0, l1_weight: float = 5.0, giou_weight: float = 2.0,
                 bce_weight: float = 5.0, dice_weight: float = 5.0, no_object_weight: float = 0.1,
                 positive_iou: float | None = None, num_points: int = 12544,
                 oversample_ratio: float = 3.0, importance_ratio: float = 0.75,
                 sentence_reduction: Literal['mean', 'sum'] = 'mean',
                 normalization: Literal['images', 'targets'] = 'images') -> None:
        super().__init__()
        check_choice('criterion.sentence_reduction', sentence_reduction, ('mean', 'sum'))
        check_choice('criterion.normalization', normalization, ('images', 'targets'))
        if positive_iou is not None and not 0 < positive_iou <= 1:
            raise ValueError(f'criterion.positive_iou must be None or in (0, 1], got '
                             f'{positive_iou!r}')
        self.weights = dict(zip(self.names, (
            word_weight, sentence_weight, ranking_weight, l1_weight, giou_weight, bce_weight,
            dice_weight), strict=True))
        self.no_object_weight = no_object_weight
        self.positive_iou = positive_iou
        self.num_points = num_points
        self.oversample_ratio = oversample_ratio
        self.importance_ratio = importance_ratio
        self.sentence_reduction = sentence_reduction
        self.normalization = normalization

    def sample(self, features: Tensor, targets: Targets, image_index: Tensor,
               known_index: Sequence[int] | None = None) -> SampledMasks:
        """Choose where masks are compared, once for all sets, the matching and denoising.

        Args:
            features: (B, C, h, w) mask features.
            targets: Targets of R rows.
            image_index: (R,) int64, the image of each row.
            known_index: The same on the host, which otherwise asks the device.
        """
        if features.shape[-2:].numel() <= self.num_points:
            return SampledMasks.on_grid(features, targets.masks, image_index, known_index)
        candidates = int(self.num_points * self.oversample_ratio)
        always = self.num_points - int(self.num_points * self.importance_ratio)
        points = torch.rand(candidates + always, 2, device=features.device)
        return SampledMasks(
            features_at_points(features.float(), points), self.truth_at(targets.masks, points),
            image_index, candidates, known_index)

    def forward(self, predictions: Predictions, targets: Targets, matches: Matches,
                is_word: Tensor, masks: SampledMasks, one_to_many: bool = False,
                shares: ImageShares | None = None) -> dict[str, WeightedSum]:
        """Compute the losses of S sets.

        Args:
            predictions: S sets of R rows.
            targets: Targets of the R rows.
            matches: Which query takes which target.
            is_word: (R,) bool.
            masks: Where masks are compared; see :meth:`sample`.
            one_to_many: Whether several queries take one target, as in denoising; boxes and
                masks are then averaged over the matches.
            shares: How much each row counts where ``normalization`` is ``'images'``; by default
                the rows of an image count alike.

        Returns:
            For each of :attr:`names` weighted sums (S,), and counts (S,) or ().
        """
        if shares is None:
            shares = ImageShares.of(masks.image_index, len(masks.features))
        masked = targets.mask_index >= 0
        if one_to_many:
            ones = torch.ones_like(matches.rows, dtype=torch.float32)
            num_targets = _per_row(ones, matches, predictions)
            num_masks = _per_row(masked[matches.rows, matches.targets].float(), matches,
                                 predictions)
        else:
            num_targets, num_masks = targets.valid.sum(1).float(), masked.sum(1).float()
        sums = (*self._similarity(predictions, targets, matches, is_word),
                *((box, num_targets) for box in self.box_losses(predictions, targets, matches)),
                *((mask, num_masks) for mask in self.mask_losses(
                    predictions, targets, matches, masks)))
        return {name: self._average(total, count, shares).scaled(self.weights[name])
                for name, (total, count) in zip(self.names, sums, strict=True)}

    def _average(self, total: Tensor, count: Tensor, shares: ImageShares) -> WeightedSum:
        """Sum up what rows give: sums (S, R), and counts (S, R) or (R,) that they are over."""
        if self.normalization == 'targets':
            return WeightedSum(total.sum(1), count.sum(-1))
        # Where a row has nothing to count, its sum is zero too.
        return WeightedSum((total / count.clamp(min=1e-6) * shares.weight).sum(1),
                           shares.num_images)

    def _similarity(self, predictions: Predictions, targets: Targets, matches: Matches,
                    is_word: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
        """Sums (S, R) and their counts: of words, of sentences and of their ranking."""
        logits = predictions.logits
        none = logits.shape[-1] - 1
        at = (matches.sets, matches.rows, matches.queries)
        classes = torch.full(logits.shape[:3], none, device=logits.device)
        classes[at] = targets.labels[matches.rows, matches.targets]
        positive = torch.zeros(logits.shape[:3], dtype=torch.bool, device=logits.device)
        positive[at] = torch.ones((), dtype=torch.bool, device=positive.device)
        taking_part = predictions.valid.float()
        weight = torch.where(positive, 1.0, self.no_object_weight) * taking_part
        weight = weight * is_word[:, None]
        # Sentence rows have no "no object" column; the label 0 keeps their entries finite.
        classes = torch.where(is_word[:, None], classes, 0)
        word = word_loss(logits, classes, weight)
        first = torch.where(is_word[:, None], 0.0, logits[..., 0])
        if self.positive_iou is not None:
            positive = positive | self._on_target(predictions, targets)
        positive = positive & ~is_word[:, None]
        sentence_weight = self.query_weight(positive, taking_part * ~is_word[:, None])
        sentences = (~is_word & predictions.valid.any(2).any(0)).float()
        return ((word, weight.sum(2)),
                (sentence_loss(first, positive, sentence_weight), sentences),
                (ranking_loss(first, positive, sentence_weight), sentences))

    def query_weight(self, positive: Tensor, taking_part: Tensor) -> Tensor:
        """Weigh the queries (S, R, Q) of sentences, so that every sentence counts the same.

        Args:
            positive: (S, R, Q) bool, queries on a target.
            taking_part: (S, R, Q) float, zero elsewhere and in word lists.
        """
        over = taking_part if self.sentence_reduction == 'mean' else positive
        return taking_part / over.sum(-1, keepdim=True).clamp(min=1)

    @torch.no_grad()
    def _on_target(self, predictions: Predictions, targets: Targets) -> Tensor:
        """Find the queries (S, R, Q) bool that take part and lie on a target of their row."""
        iou, _ = pairwise_iou(predictions.boxes.float(), targets.boxes[None])
        near = (iou >= self.positive_iou) & targets.valid[:, None]
        return near.any(-1) & predictions.valid

    def box_losses(self, predictions: Predictions, targets: Targets,
                   matches: Matches) -> tuple[Tensor, Tensor]:
        """Compute the L1 and generalised IoU losses, summed over the matches: (S, R) each."""
        predicted = predictions.boxes[matches.sets, matches.rows, matches.queries].float()
        wanted = targets.boxes[matches.rows, matches.targets]
        l1 = (predicted - wanted).abs().sum(-1)
        giou = self.giou_loss(
            box_convert(predicted, 'cxcywh', 'xyxy'), box_convert(wanted, 'cxcywh', 'xyxy'))
        return _per_row(l1, matches, predictions), _per_row(giou, matches, predictions)

    @staticmethod
    def giou_loss(predicted: Tensor, wanted: Tensor) -> Tensor:
        """Compute the losses (n,) of xyxy boxes (n, 4)."""
        return 1 - iou_and_giou(predicted, wanted)[1]

    def mask_losses(self, predictions: Predictions, targets: Targets, matches: Matches,
                    masks: SampledMasks) -> tuple[Tensor, Tensor]:
        """Compute the BCE and Dice losses, summed over the matches with masks: (S, R) each."""
        rows = matches.rows_on_host
        masked = np.flatnonzero(targets.on_host.masked[rows])
        order, counts = masks.by_image(rows[masked])
        matches = matches.take(masked[order])
        embed = predictions.mask_embed[matches.sets, matches.rows, matches.queries]
        logits = masks.logits(embed, counts)
        truth = masks.truth[targets.mask_index[matches.rows, matches.targets]]
        values, wanted = self._compared(logits, truth, masks.num_candidates)
        values = values.float()
        bce = F.binary_cross_entropy_with_logits(values, wanted, reduction='none').mean(1)
        dice = dice_loss(values, wanted)
        return _per_row(bce, matches, predictions), _per_row(dice, matches, predictions)

    def _compared(self, logits: Tensor, truth: Tensor, candidates: int | None
                  ) -> tuple[Tensor, Tensor]:
        """Of (n, P) values those that count: the least certain candidates and the rest."""
        if candidates is None:
            return logits, truth
        hard = uncertain(logits[:, :candidates], int(self.num_points * self.importance_ratio))
        return tuple(torch.cat([x[:, :candidates].gather(1, hard), x[:, candidates:]], 1)
                     for x in (logits, truth))


def _per_row(values: Tensor, matches: Matches, predictions: Predictions) -> Tensor:
    """Sum values (n,) of matches by set and row: (S, R)."""
    sets, rows = predictions.valid.shape[:2]
    flat = values.new_zeros(sets * rows).index_add(0, matches.sets * rows + matches.rows, values)
    return flat.view(sets, rows)
