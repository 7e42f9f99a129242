# Copyright (c) mvp_mm authors. All rights reserved.
"""The criterion with mask losses for targets that have boxes alone."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mvp_mm.models.losses import (
    ImageShares,
    Matches,
    PerceptionCriterion,
    Predictions,
    SampledMasks,
    Targets,
    WeightedSum,
)
from mvp_mm.registry import MODELS
from projects.box_supervision.box_supervision.losses import (
    box_masks,
    box_supervision,
    lab_colours,
)


@dataclass
class GridMasks(SampledMasks):
    """Sampled points, and the whole mask features ``grid`` (B, C, h, w)."""

    grid: Tensor | None = None


@MODELS.register_module()
class BoxSupervisedCriterion(PerceptionCriterion):
    """Adds two mask losses for things that have a box and no mask, in the last decoder layer.

    ``loss_mask_projection``: the mask touches the sides of its box and nothing beyond.
    ``loss_mask_affinity``: neighbours of like colour lie on one side of the mask's edge; it
    counts where the mask fits its box, in place of a warm-up.

    Targets with masks, and all other losses, are as in :class:`PerceptionCriterion`.

    Args:
        projection_weight: Weight of the projection loss.
        affinity_weight: Weight of the affinity loss.
        similarity: See :func:`~projects.box_supervision.box_supervision.losses.affinity_loss`.
        dilation: The same.
        **kwargs: See :class:`PerceptionCriterion`.
    """

    def __init__(self, projection_weight: float = 5.0, affinity_weight: float = 5.0,
                 similarity: float = 0.3, dilation: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.box_weights = dict(loss_mask_projection=projection_weight,
                                loss_mask_affinity=affinity_weight)
        self.similarity = similarity
        self.dilation = dilation
        self.images: Tensor | None = None

    def see(self, images: Tensor) -> None:
        """Take the images (B, 3, H, W) of the batch, RGB in [0, 1]."""
        self.images = images

    def sample(self, features: Tensor, targets: Targets, image_index: Tensor,
               known_index: Sequence[int] | None = None) -> GridMasks:
        """See :meth:`PerceptionCriterion.sample`."""
        masks = super().sample(features, targets, image_index, known_index)
        return GridMasks(**vars(masks), grid=features)

    def forward(self, predictions: Predictions, targets: Targets, matches: Matches,
                is_word: Tensor, masks: GridMasks, one_to_many: bool = False,
                shares: ImageShares | None = None) -> dict[str, WeightedSum]:
        """See :meth:`PerceptionCriterion.forward`; denoising rows are left as they are."""
        values = super().forward(
            predictions, targets, matches, is_word, masks, one_to_many, shares)
        if one_to_many:
            return values
        if shares is None:
            shares = ImageShares.of(masks.image_index, len(masks.features))
        unmasked = targets.valid & (targets.mask_index < 0) & ~targets.is_stuff
        count = unmasked.sum(1).float()
        for name, total in zip(self.box_weights, self.box_mask_losses(
                predictions, targets, matches.where(unmasked[matches.rows, matches.targets]),
                masks), strict=True):
            values[name] = self._average(total, count, shares).scaled(self.box_weights[name])
        return values

    def box_mask_losses(self, predictions: Predictions, targets: Targets, matches: Matches,
                        masks: GridMasks) -> tuple[Tensor, Tensor]:
        """Compute projection and affinity losses of the last set: (S, R) each, zero elsewhere.

        Args:
            predictions: S sets of R rows.
            targets: Targets of the R rows.
            matches: Matches of targets without a mask.
            masks: With the mask features.

        Raises:
            RuntimeError: If no images were given by :meth:`see`.
        """
        if self.images is None:
            raise RuntimeError('BoxSupervisedCriterion needs the images: use BoxSupervisedMVPLM')
        sets, rows = predictions.valid.shape[:2]
        matches = matches.where(matches.sets == sets - 1)
        image = masks.image_index[matches.rows]
        embed = predictions.mask_embed[matches.sets, matches.rows, matches.queries]
        grid = masks.grid.float()
        logits = torch.einsum('nc,nchw->nhw', embed.float(), grid[image])
        boxes = box_masks(targets.boxes[matches.rows, matches.targets], grid.shape[-2:])
        colours = lab_colours(F.interpolate(self.images, size=grid.shape[-2:], mode='area'))
        losses = box_supervision(logits, boxes, colours[image], self.similarity, self.dilation)
        at = matches.sets * rows + matches.rows
        return tuple(loss.new_zeros(sets * rows).index_add(0, at, loss).view(sets, rows)
                     for loss in losses)
