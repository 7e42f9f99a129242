# Copyright (c) mvp_mm authors. All rights reserved.
"""Denoising queries: noised targets that the decoder learns to restore (DN-DETR, MaskDINO)."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mvp_mm.models.losses.targets import Matches, Targets
from mvp_mm.models.state import DecoderQueries, InstructionBatch
from mvp_mm.registry import MODELS


@dataclass
class DenoisingRows(DecoderQueries):
    """W extra decoder rows that hold groups of noised targets.

    They are rows of their own, so matching queries never see them and no padding is added to
    instructions without denoising. A group attends to itself only.

    Attributes:
        source: (W,) int64, the instruction row that each belongs to.
        copied_rows: The same rows on the host.
        known_valid: ``valid`` on the host.
        target: (W, Q) int64 index of the target that a query should restore.
    """

    source: Tensor
    copied_rows: list[int]
    known_valid: np.ndarray
    target: Tensor

    def matches(self, num_sets: int) -> Matches:
        """Give the known assignment, in every one of ``num_sets`` sets."""
        return Matches.known(self.known_valid, self.target, num_sets)


@MODELS.register_module()
class Denoising(BaseModule):
    """Noises the targets of word instructions, those of stuff queries left out.

    Args:
        embed_dims: Width C.
        num_queries: Most denoising queries per instruction; bounds the cost of crowded images.
        label_noise: Probability that a query starts from another phrase of the list.
        box_noise: Largest shift of the centre, in half sizes, and relative change of the size.
    """

    def __init__(self, embed_dims: int = 256, num_queries: int = 100, label_noise: float = 0.2,
                 box_noise: float = 0.4) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.label_noise = label_noise
        self.box_noise = box_noise
        self.content = nn.Linear(embed_dims, embed_dims)

    def forward(self, targets: Targets, batch: InstructionBatch, text: Tensor,
                num_slots: int) -> DenoisingRows:
        """Noise labels and boxes of the targets.

        Args:
            targets: Targets of R rows.
            batch: Their instructions.
            text: (R, K, C) text embeddings.
            num_slots: Queries Q of a decoder row; groups fill it as far as they fit.
        """
        noised = targets.on_host.things
        copied = np.flatnonzero(batch.on_host.is_word & noised.any(1))
        # Laid out on the host: everything but the draws is known there.
        count = noised[copied].sum(1, keepdims=True)
        slot = np.arange(num_slots)[None]
        budget = min(num_slots, self.num_queries)
        known_valid = (slot < np.maximum(budget // count, 1) * count) & (slot < budget)
        group = np.where(known_valid, slot // count, -1 - slot)
        # Stuff has queries of its own: the order puts what is noised first.
        order = (~noised[copied]).argsort(axis=1, kind='stable')
        source, valid, group, order, count = (
            torch.from_numpy(array).to(text.device, non_blocking=True)
            for array in (copied, known_valid, group, order, count))
        # A random start decides who is left out when there are more targets than slots.
        start = torch.randint(1 << 30, (len(copied), 1), device=text.device)
        slot = torch.arange(num_slots, device=text.device)
        target = order.gather(1, (slot + start) % count)
        # An empty slot is a group of its own.
        allowed = group[:, :, None] == group[:, None, :]
        labels = self._noisy_labels(targets.labels[source].gather(1, target),
                                    batch.phrase_mask[source])
        content = text[source].gather(1, labels[..., None].expand(-1, -1, text.shape[-1]))
        boxes = targets.boxes[source].gather(1, target[..., None].expand(-1, -1, 4))
        return DenoisingRows(self.content(content), self._noisy_boxes(boxes), allowed, valid,
                             source, copied.tolist(), known_valid, target)

    def _noisy_labels(self, labels: Tensor, phrase_mask: Tensor) -> Tensor:
        flip = torch.rand_like(labels, dtype=torch.float32) < self.label_noise
        count = phrase_mask.sum(1, keepdim=True)
        other = (torch.rand_like(labels, dtype=torch.float32) * count).long()
        return torch.where(flip, other, labels)

    def _noisy_boxes(self, boxes: Tensor) -> Tensor:
        noise = (torch.rand_like(boxes) * 2 - 1) * self.box_noise
        centre = boxes[..., :2] + noise[..., :2] * boxes[..., 2:] / 2
        size = boxes[..., 2:] * (1 + noise[..., 2:])
        return torch.cat([centre, size], -1).clamp(1e-4, 1.0)
