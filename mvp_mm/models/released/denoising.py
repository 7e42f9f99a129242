# Copyright (c) mvp_mm authors. All rights reserved.
"""Denoising queries of the authors' released code."""
from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from mvp_mm.models.losses.targets import Matches, Targets
from mvp_mm.models.position import inverse_sigmoid
from mvp_mm.models.state import DecoderQueries, InstructionBatch
from mvp_mm.registry import MODELS


@dataclass
class DenoisingQueries:
    """P denoising queries in front of every row's own.

    Attributes:
        content: (R, P, C), zeros in empty slots.
        box_logits: (R, P, 4) logits of noised boxes cxcywh, zeros in empty slots.
        group: (P,) int64, the group of each slot.
        valid: (R, P) bool.
        target: (R, P) int64 index of the target that a query should restore.
    """

    content: Tensor
    box_logits: Tensor
    group: Tensor
    valid: Tensor
    target: Tensor

    def in_front_of(self, queries: DecoderQueries) -> DecoderQueries:
        """Put these P queries in front of the Q matching queries of each row.

        Matching queries do not attend to them. A group attends to itself, its empty slots too,
        and to the row's matching queries.
        """
        size = len(self.group)
        rows = len(queries.valid)
        same = (self.group[:, None] == self.group).expand(rows, -1, -1)
        above = torch.cat([same, queries.valid[:, None].expand(-1, size, -1)], 2)
        allowed = torch.cat([above, F.pad(queries.allowed, (size, 0), value=False)], 1)
        return DecoderQueries(
            torch.cat([self.content, queries.content], 1),
            torch.cat([self.box_logits.sigmoid(), queries.boxes], 1), allowed,
            torch.cat([self.valid, queries.valid], 1))

    def matches(self, num_sets: int) -> Matches:
        """Give the known assignment, in every one of ``num_sets`` sets."""
        return Matches.known(self.valid.cpu().numpy(), self.target, num_sets)


@MODELS.register_module()
class ReleasedDenoising(BaseModule):
    """Makes groups of noised boxes, each with the text embedding of its class.

    Every row gets ``num_queries // G`` groups of G slots, G being the most targets of a word
    list in the batch. Stuff is noised too; names are not. A batch without targets, or with more
    than ``num_queries`` in a list, goes without.

    Args:
        num_queries: Most denoising queries per row.
        box_noise: Largest shift of the centre, in half sizes, and relative change of the size.
    """

    def __init__(self, num_queries: int = 100, box_noise: float = 0.4) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.box_noise = box_noise

    def forward(self, targets: Targets, batch: InstructionBatch,
                text: Tensor) -> DenoisingQueries | None:
        """Noise labels and boxes of the targets.

        Args:
            targets: Targets of R rows.
            batch: Their instructions.
            text: (R, K, C) text embeddings; they get a gradient.
        """
        noised = targets.valid & batch.is_word[:, None]
        most = int(noised.sum(1).max())
        groups = self.num_queries // most if most else 0
        if not groups:
            return None
        noised, labels = noised[:, :most], targets.labels[:, :most]
        # Drawn group by group over all targets of the batch, one row per target.
        boxes = self._noisy(targets.boxes[:, :most][noised].repeat(groups, 1))
        row, slot = noised.nonzero(as_tuple=True)
        box_logits = boxes.new_zeros(len(noised), groups, most, 4)
        box_logits[row, :, slot] = inverse_sigmoid(
            boxes.unflatten(0, (groups, -1)), eps=1e-5).transpose(0, 1)
        content = text.gather(1, labels[..., None].expand(-1, -1, text.shape[-1]))
        content = content * noised[..., None]
        target = torch.arange(most, device=text.device).repeat(groups)
        return DenoisingQueries(
            content.repeat(1, groups, 1), box_logits.flatten(1, 2),
            torch.arange(groups, device=text.device).repeat_interleave(most),
            noised.repeat(1, groups), target.expand(len(noised), -1))

    def _noisy(self, boxes: Tensor) -> Tensor:
        reach = torch.cat([boxes[:, 2:] / 2, boxes[:, 2:]], -1)
        noise = (torch.rand_like(boxes) * 2 - 1) * reach * self.box_noise
        return (boxes + noise).clamp(0.0, 1.0)
