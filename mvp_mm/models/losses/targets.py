# Copyright (c) mvp_mm authors. All rights reserved.
"""Targets, predictions and matches of a batch as padded tensors."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_convert

from mvp_mm.models.state import InstructionBatch
from mvp_mm.structures import PerceptionDataSample


@dataclass
class Targets:
    """Targets of R instructions, padded to the G of the fullest.

    Attributes:
        labels: (R, G) int64 phrase indices.
        boxes: (R, G, 4) cxcywh, normalised by the canvas.
        valid: (R, G) bool; real targets come first.
        is_stuff: (R, G) bool, targets that belong to the stuff queries.
        mask_index: (R, G) int64 into ``masks``, -1 where a target has no mask.
        masks: (n, H, W) bool.
        known_count: The number of targets of each row on the host; None where the device alone
            knows it.
    """

    labels: Tensor
    boxes: Tensor
    valid: Tensor
    is_stuff: Tensor
    mask_index: Tensor
    masks: Tensor
    known_count: list[int] | None = None

    @property
    def count(self) -> Tensor:
        """(R,) number of targets of each row."""
        return self.valid.sum(1)

    @classmethod
    def collate(cls, samples: list[PerceptionDataSample], batch: InstructionBatch,
                canvas: Sequence[int]) -> Targets:
        """Pad the samples' ``gt_instances``.

        Args:
            samples: R data samples.
            batch: Their instructions, in the same order.
            canvas: Height and width that boxes are normalised by.
        """
        device = batch.ids.device
        truths = [sample.gt_instances for sample in samples]
        counts = torch.tensor([len(truth) for truth in truths])
        masked = torch.tensor(['masks' in truth for truth in truths])
        shape = (len(samples), max(1, int(counts.max())))
        # Computed on the host, where the counts are; what follows needs no synchronisation.
        row = torch.repeat_interleave(torch.arange(len(samples)), counts)
        slot = torch.arange(len(row)) - (counts.cumsum(0) - counts)[row]
        index = torch.full((len(row), ), -1)
        index[masked[row]] = torch.arange(int(masked[row].sum()))
        at = (row.to(device, non_blocking=True), slot.to(device, non_blocking=True))
        labels = torch.zeros(shape, dtype=torch.long, device=device)
        labels[at] = torch.cat([truth.labels for truth in truths]).to(device)
        scale = torch.tensor([canvas[1], canvas[0]] * 2, dtype=torch.float32).to(
            device, non_blocking=True)
        boxes = torch.full((*shape, 4), 0.5, device=device)
        boxes[at] = box_convert(
            torch.cat([truth.bboxes for truth in truths]).to(device) / scale, 'xyxy', 'cxcywh')
        valid = torch.zeros(shape, dtype=torch.bool, device=device)
        # A Python scalar would be copied from the host, and waited for.
        valid[at] = torch.ones((), dtype=torch.bool, device=device)
        mask_index = torch.full(shape, -1, device=device)
        mask_index[at] = index.to(device, non_blocking=True)
        masks = [truth.masks for truth in truths if len(truth) and 'masks' in truth]
        is_thing = batch.is_thing.gather(1, labels) | ~batch.use_stuff[:, None]
        stacked = (torch.cat(masks).to(device) if masks else
                   torch.zeros((0, *canvas), dtype=torch.bool, device=device))
        return cls(labels, boxes, valid, valid & ~is_thing, mask_index, stacked, counts.tolist())


@dataclass
class Predictions:
    """Outputs of S supervised sets (query selection, initial queries, every layer).

    Attributes:
        logits: (S, R, Q, K + 1); see :class:`SimilarityHead`.
        boxes: (S, R, Q, 4) cxcywh in [0, 1].
        mask_embed: (S, R, Q, C).
        valid: (S, R, Q) bool, queries that take part.
        num_dynamic: N; queries from N on are stuff queries.
    """

    logits: Tensor
    boxes: Tensor
    mask_embed: Tensor
    valid: Tensor
    num_dynamic: int

    def rows(self, keep: slice, sets: slice = slice(None)) -> Predictions:
        """Select rows of sets."""
        return Predictions(self.logits[sets, keep], self.boxes[sets, keep],
                           self.mask_embed[sets, keep], self.valid[sets, keep], self.num_dynamic)

    def with_first_set(self, logits: Tensor, boxes: Tensor, mask_embed: Tensor,
                       valid: Tensor) -> Predictions:
        """Put one more set, given without its dimension S, in front."""
        rest = (self.logits, self.boxes, self.mask_embed, self.valid)
        joined = [torch.cat([a[None], b])
                  for a, b in zip((logits, boxes, mask_embed, valid), rest, strict=True)]
        return Predictions(*joined, self.num_dynamic)


@dataclass
class Matches:
    """Assignments of n targets to queries, as four (n,) int64 tensors."""

    sets: Tensor
    rows: Tensor
    queries: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.sets)

    @classmethod
    def known(cls, valid: Tensor, target: Tensor, num_sets: int) -> Matches:
        """Match queries where (R, Q) bool is True to their (R, Q) targets, in every set alike."""
        row, query = valid.nonzero(as_tuple=True)
        sets = torch.arange(num_sets, device=row.device).repeat_interleave(len(row))
        return cls(sets, row.repeat(num_sets), query.repeat(num_sets),
                   target[row, query].repeat(num_sets))

    def where(self, keep: Tensor) -> Matches:
        """Select the matches where (n,) bool is True."""
        return self.take(keep.nonzero()[:, 0])

    def take(self, index: Tensor) -> Matches:
        """Select the matches at positions, in their order."""
        return Matches(self.sets[index], self.rows[index], self.queries[index],
                       self.targets[index])
