# Copyright (c) mvp_mm authors. All rights reserved.
"""Panoptic segmentation whose class scores are an ensemble with frozen CLIP-style features."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mvp_mm.registry import TASKS
from mvp_mm.structures import PerceptionDataSample, RawPrediction
from mvp_mm.tasks import PanopticTask
from mvp_mm.tasks.decoding.bands import rescale_mask_logits
from projects.open_vocabulary.open_vocabulary.features import FeatureFolder
from projects.open_vocabulary.open_vocabulary.metric import BaseClasses


def pool_masks(features: Tensor, mask_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Average features over masks.

    Args:
        features: (D, h, w).
        mask_logits: (Q, h, w) on the same grid.

    Returns:
        (Q, D) means over the cells inside, and (Q,) bool, masks that have any.
    """
    inside = (mask_logits > 0).flatten(1).to(features.dtype)
    cells = inside.sum(1)
    return inside @ features.flatten(1).T / cells.clamp(min=1)[:, None], cells > 0


def geometric_ensemble(inside: Tensor, outside: Tensor, weight: Tensor) -> Tensor:
    """Combine two sets of class probabilities by a weighted geometric mean.

    Args:
        inside: (Q, K + 1) of the model, "no object" last; its share is kept.
        outside: (Q, K) of the frozen features.
        weight: (Q, K) or (K,) in [0, 1], how much ``outside`` counts.

    Returns:
        (Q, K + 1) probabilities.
    """
    object_share = inside[:, :-1].sum(1, keepdim=True)
    known = inside[:, :-1] / object_share.clamp(min=1e-12)
    mixed = known ** (1 - weight) * outside ** weight
    mixed = mixed / mixed.sum(1, keepdim=True).clamp(min=1e-12)
    return torch.cat([mixed * object_share, inside[:, -1:]], 1)


@TASKS.register_module()
class EnsemblePanopticTask(PanopticTask):
    """Panoptic segmentation with open-vocabulary scores.

    A query's class probabilities are the geometric mean of the model's and those of frozen
    features averaged over its mask: ``p^(1 - w) · q^w``, with w = ``base_weight`` for classes
    that training has named and ``novel_weight`` for others. "No object" stays the model's.

    Args:
        features: Folder of :class:`FeatureFolder`.
        base_classes: Classes that training has named, see :class:`BaseClasses`.
        base_weight: Weight of the frozen features for base classes.
        novel_weight: For novel classes.
        scale: Factor of the cosines before the softmax.
        **kwargs: See :class:`PanopticTask`.

    Raises:
        ValueError: If a weight is not in [0, 1].
    """

    def __init__(self, *, features: str, base_classes: str | Sequence[str],
                 base_weight: float = 0.4, novel_weight: float = 0.8, scale: float = 100.0,
                 **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, value in (('base_weight', base_weight), ('novel_weight', novel_weight)):
            if not 0 <= value <= 1:
                raise ValueError(f'{name} must be in [0, 1], got {value}')
        self.features = features
        self.base_classes = BaseClasses(base_classes)
        self.base_weight = base_weight
        self.novel_weight = novel_weight
        self.scale = scale
        self._folder: FeatureFolder | None = None

    @property
    def folder(self) -> FeatureFolder:
        """Open the features on first use."""
        if self._folder is None:
            self._folder = FeatureFolder(self.features)
        return self._folder

    def decode(self, raw: RawPrediction, sample: PerceptionDataSample) -> None:
        """See :meth:`BaseTask.decode`."""
        super().decode(replace(raw, logits=self.ensemble(raw, sample)), sample)

    def ensemble(self, raw: RawPrediction, sample: PerceptionDataSample) -> Tensor:
        """Compute the logarithms (Q, K + 1) of the probabilities of the ensemble."""
        phrases, device = sample.instruction.phrases, raw.logits.device
        inside = raw.logits.float().softmax(-1)
        features = torch.from_numpy(self.folder.image(sample.img_path)).to(device)
        text = torch.from_numpy(self.folder.text(phrases)).to(device)
        # Where the image lies on the canvas, on the grid of its features.
        masks = rescale_mask_logits(raw.mask_logits.float(), dict(
            sample.metainfo, ori_shape=tuple(features.shape[-2:])))
        pooled, known = pool_masks(features, masks)
        cosines = F.normalize(pooled, dim=-1) @ F.normalize(text, dim=-1).T
        weights = [self.base_weight if name in self.base_classes else self.novel_weight
                   for name in phrases]
        weight = inside.new_tensor(weights) * known[:, None]
        mixed = geometric_ensemble(inside, (self.scale * cosines).softmax(-1), weight)
        return mixed.log().clamp(min=torch.finfo(mixed.dtype).min)
