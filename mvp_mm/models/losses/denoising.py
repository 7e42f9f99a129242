# Copyright (c) mvp_mm authors. All rights reserved.
"""Denoising queries: noised targets that the decoder learns to restore (DN-DETR, MaskDINO)."""
from __future__ import annotations

from dataclasses import dataclass

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
        target: (W, Q) int64 index of the target that a query should restore.
    """

    source: Tensor
    copied_rows: list[int]
    target: Tensor

    def matches(self, num_sets: int) -> Matches:
        """Give the known assignment, in every one of ``num_sets`` sets."""
        return Matches.known(self.valid, self.target, num_sets)


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
        noised = targets.valid & ~targets.is_stuff
        copied = (batch.is_word & noised.any(1)).tolist()
        copied = [row for row, is_copied in enumerate(copied) if is_copied]
        source = torch.tensor(copied, dtype=torch.long, device=text.device)
        count = noised[source].sum(1, keepdim=True)
        slot = torch.arange(num_slots, device=text.device)[None]
        budget = min(num_slots, self.num_queries)
        groups = (budget // count.clamp(min=1)).clamp(min=1)
        valid = (slot < groups * count) & (slot < budget)
        # A random start decides who is left out when there are more targets than slots.
        start = torch.randint(1 << 30, (len(source), 1), device=text.device)
        # Stuff has queries of its own: the order puts what is noised first.
        order = (~noised[source]).long().argsort(dim=1, stable=True)
        target = order.gather(1, (slot + start) % count.clamp(min=1))
        group = slot // count.clamp(min=1)
        same = (group[:, :, None] == group[:, None, :]) & (valid[:, :, None] & valid[:, None, :])
        allowed = same | torch.eye(num_slots, dtype=torch.bool, device=text.device)
        labels = self._noisy_labels(targets.labels[source].gather(1, target),
                                    batch.phrase_mask[source])
        content = text[source].gather(1, labels[..., None].expand(-1, -1, text.shape[-1]))
        boxes = targets.boxes[source].gather(1, target[..., None].expand(-1, -1, 4))
        return DenoisingRows(self.content(content), self._noisy_boxes(boxes), allowed, valid,
                             source, copied, target)

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
