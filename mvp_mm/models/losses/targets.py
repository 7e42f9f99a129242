# Copyright (c) mvp_mm authors. All rights reserved.
"""Targets, predictions and matches of a batch as padded tensors."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mvp_mm.models.state import InstructionBatch
from mvp_mm.structures import PerceptionDataSample


@dataclass(frozen=True)
class HostTargets:
    """What the host knows of the targets of R rows: to ask the device would be to wait for it.

    Attributes:
        count: (R,) int64, number of targets.
        things: (R, G) bool, targets that do not belong to the stuff queries.
        masked: (R,) bool, whether a row's targets have masks.
    """

    count: np.ndarray
    things: np.ndarray
    masked: np.ndarray

    def of_rows(self, rows: list[int]) -> HostTargets:
        """Select rows by index."""
        return HostTargets(self.count[rows], self.things[rows], self.masked[rows])


@dataclass
class Targets:
    """Targets of R instructions, padded to the G of the fullest.

    Attributes:
        labels: (R, G) int64 phrase indices.
        boxes: (R, G, 4) cxcywh, normalised by the canvas.
        valid: (R, G) bool; real targets come first.
        is_stuff: (R, G) bool, targets that belong to the stuff queries.
        mask_index: (R, G) int64 into ``masks``, -1 where a target has no mask. All targets of a row
            have one, or none has.
        masks: (n, H, W) bool.
        host: What the host knows of them; None where the device alone knows it.
    """

    labels: Tensor
    boxes: Tensor
    valid: Tensor
    is_stuff: Tensor
    mask_index: Tensor
    masks: Tensor
    host: HostTargets | None = None

    @classmethod
    def collate(cls, samples: list[PerceptionDataSample], batch: InstructionBatch,
                canvas: Sequence[int]) -> Targets:
        """Pad the samples' ``gt_instances``.

        Args:
            samples: R data samples.
            batch: Their instructions, in the same order.
            canvas: Height and width that boxes are normalised by.
        """
        truths = [sample.gt_instances for sample in samples]
        counts = np.array([len(truth) for truth in truths])
        masked = np.array(['masks' in truth for truth in truths]) & (counts > 0)
        # Padded on the host, where the samples' boxes and labels are; masks are on the device.
        valid = np.arange(max(1, counts.max())) < counts[:, None]
        labels = np.zeros(valid.shape, dtype=np.int64)
        labels[valid] = values_on_host([truth.labels for truth in truths])
        boxes = np.full((*valid.shape, 4), 0.5, dtype=np.float32)
        scale = np.array([canvas[1], canvas[0]] * 2, dtype=np.float32)
        corners = values_on_host([truth.bboxes for truth in truths]) / scale
        first, last = np.split(corners, 2, axis=1)
        boxes[valid] = np.concatenate([(first + last) / 2, last - first], 1)
        mask_index = np.full(valid.shape, -1)
        mask_index[valid & masked[:, None]] = np.arange(counts[masked].sum())
        asked = batch.on_host
        is_thing = np.take_along_axis(asked.is_thing, labels, 1)
        is_stuff = valid & ~is_thing & np.array(asked.use_stuff)[:, None]
        device = batch.ids.device
        masks = [truth.masks for truth, has in zip(truths, masked, strict=True) if has]
        stacked = (torch.cat(masks).to(device, non_blocking=True) if masks else
                   torch.zeros((0, *canvas), dtype=torch.bool, device=device))
        arrays = (torch.from_numpy(array).to(device, non_blocking=True)
                  for array in (labels, boxes, valid, is_stuff, mask_index))
        return cls(*arrays, stacked, HostTargets(counts, valid & ~is_stuff, masked))

    @property
    def on_host(self) -> HostTargets:
        """What the host knows; where it knows nothing, the device is asked."""
        if self.host is not None:
            return self.host
        valid, is_stuff, has_mask = torch.stack(
            [self.valid, self.is_stuff, self.mask_index >= 0]).cpu().numpy()
        return HostTargets(valid.sum(1), valid & ~is_stuff, has_mask.any(1))


def values_on_host(tensors: list[Tensor]) -> np.ndarray:
    """Join tensors in an array; those that are on a device are waited for."""
    return np.concatenate([
        (tensor if tensor.device.type == 'cpu' else tensor.cpu()).numpy() for tensor in tensors])


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
    """Assignments of n targets to queries, as four (n,) int64 tensors.

    Attributes:
        known_rows: (n,) int64, ``rows`` on the host; None where the device alone knows them.
    """

    sets: Tensor
    rows: Tensor
    queries: Tensor
    targets: Tensor
    known_rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.sets)

    @classmethod
    def on_device(cls, index: np.ndarray, device: torch.device) -> Matches:
        """Copy assignments (4, n) int64, in the order of the attributes, to a device."""
        copied = torch.from_numpy(index).to(device, non_blocking=True)
        return cls(*copied.unbind(), index[1])

    @classmethod
    def known(cls, valid: np.ndarray, target: Tensor, num_sets: int) -> Matches:
        """Match queries where (R, Q) bool is True to their (R, Q) targets, in every set alike."""
        row, query = valid.nonzero()
        sets = np.arange(num_sets).repeat(len(row))
        index = np.stack([sets, np.tile(row, num_sets), np.tile(query, num_sets)])
        sets, rows, queries = torch.from_numpy(index).to(target.device, non_blocking=True).unbind()
        return cls(sets, rows, queries, target[rows, queries], index[1])

    @property
    def rows_on_host(self) -> np.ndarray:
        """``rows`` on the host; where it does not know them, the device is asked."""
        return self.rows.cpu().numpy() if self.known_rows is None else self.known_rows

    def where(self, keep: Tensor) -> Matches:
        """Select the matches where (n,) bool is True; the device is waited for."""
        at = keep.nonzero()[:, 0]
        return Matches(self.sets[at], self.rows[at], self.queries[at], self.targets[at])

    def take(self, index: np.ndarray) -> Matches:
        """Select the matches at positions (m,) int64, in their order."""
        at = torch.from_numpy(index).to(self.sets.device, non_blocking=True)
        return Matches(self.sets[at], self.rows[at], self.queries[at], self.targets[at],
                       self.rows_on_host[index])
