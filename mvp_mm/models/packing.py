# Copyright (c) mvp_mm authors. All rights reserved.
"""Lays out instructions as sequences for the LLM: side by side, or behind a shared prefix."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_PREFIX, _PADDING = 0, -1


def length_groups(lengths: list[int], least_saving: float = 0.1) -> list[tuple[list[int], int]]:
    """Split sequences in two by length where that saves enough padding.

    Args:
        lengths: Tokens of each of R sequences.
        least_saving: Share of the padded tokens that a split must save.

    Returns:
        One or two groups: row indices, and the length of the longest row in it.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    ranked = [lengths[r] for r in order]
    whole = len(ranked) * ranked[-1]
    costs = [i * ranked[i - 1] + (len(ranked) - i) * ranked[-1] for i in range(1, len(ranked))]
    best = min(range(len(costs)), key=costs.__getitem__, default=0)
    if not costs or costs[best] > (1 - least_saving) * whole:
        return [(order, ranked[-1])]
    cut = best + 1
    return [(order[:cut], ranked[cut - 1]), (order[cut:], ranked[-1])]


@dataclass(frozen=True)
class RowLayout:
    """What the host knows of R right-padded rows, so that it need not ask the device.

    Attributes:
        lengths: Tokens of each row.
        sharing: Groups of rows that begin alike: the rows, and the number of tokens that they
            have in common, those of their image included. Every row is in one group.
    """

    lengths: list[int]
    sharing: list[tuple[list[int], int]]

    @classmethod
    def separate(cls, lengths: list[int]) -> RowLayout:
        """Describe rows that share nothing."""
        return cls(lengths, [([row], 0) for row in range(len(lengths))])

    @classmethod
    def find(cls, ids: np.ndarray, lengths: list[int], image_start: Sequence[int],
             image_index: Sequence[int]) -> RowLayout:
        """Find the rows about one image that begin with the same tokens.

        Args:
            ids: (R, T) int64 token ids, placeholders of visual tokens among them.
            lengths: Tokens of each row.
            image_start: Position of each row's image; -1 where it has none.
            image_index: The image of each row.
        """
        groups: dict[tuple, list[int]] = defaultdict(list)
        for row, start in enumerate(image_start):
            key = ((int(image_index[row]), ids[row, :start + 1].tobytes()) if start >= 0
                   else (-1, row))
            groups[key].append(row)
        sharing = []
        for rows in groups.values():
            common = min(lengths[row] for row in rows)
            alike = (ids[rows, :common] == ids[rows[0], :common]).all(0)
            sharing.append((rows, 0 if len(rows) == 1 else
                            common if alike.all() else int(alike.argmin())))
        return cls(lengths, sharing)

    def extended(self, count: int) -> RowLayout:
        """Describe the same rows with ``count`` more tokens each."""
        return RowLayout([length + count for length in self.lengths], self.sharing)


@dataclass
class PackedRows:
    """R rows as S sequences of blocks, each a prefix and what follows it in the rows that share it.

    A token sees what it would see in its row alone, at the same positions: the prefix, and the
    tokens before it in its own row.

    Attributes:
        lengths: Tokens of each sequence.
        source: (S, P) int64, the token of the (R · T) that each place holds.
        positions: (S, P) int64, its position in its row.
        segment: (S, P) int64: 0 in a prefix, then one number per row of a block; -1 in padding.
        block: (S, P) int64, the number of the block in its sequence; 0 in padding.
        place: (R, T) int64, the place among (S · P) of every row's token; 0 in padding.
    """

    lengths: list[int]
    source: np.ndarray
    positions: np.ndarray
    segment: np.ndarray
    block: np.ndarray
    place: np.ndarray

    @classmethod
    def of(cls, layout: RowLayout, width: int, joined: bool = False) -> PackedRows:
        """Pack rows padded to ``width`` T tokens.

        Args:
            layout: Lengths of the rows and what they share.
            width: T.
            joined: Join blocks end to end to sequences of nearly the same length, in place of
                one sequence per block.
        """
        sizes = [prefix + sum(layout.lengths[row] - prefix for row in rows)
                 for rows, prefix in layout.sharing]
        bins = balanced_bins(sizes) if joined else [[i] for i in range(len(sizes))]
        lengths = [sum(sizes[i] for i in blocks) for blocks in bins]
        shape = (len(lengths), max(lengths))
        packed = cls(lengths, *(np.full(shape, fill) for fill in (0, 0, _PADDING, 0)),
                     np.zeros((len(layout.lengths), width), dtype=np.int64))
        for s, blocks in enumerate(bins):
            first = 0
            for number, index in enumerate(blocks):
                packed.block[s, first:first + sizes[index]] = number
                packed._put_block(s, first, layout, *layout.sharing[index])
                first += sizes[index]
        return packed

    def _put_block(self, sequence: int, first: int, layout: RowLayout, rows: list[int],
                   prefix: int) -> None:
        """Place the prefix that rows share from ``first`` on, and behind it the rest of each."""
        self._put(sequence, first, rows[0], 0, prefix, _PREFIX)
        shared = sequence * self.source.shape[1] + first + np.arange(prefix)
        first += prefix
        for number, row in enumerate(rows, start=1):
            self.place[row, :prefix] = shared
            self._put(sequence, first, row, prefix, layout.lengths[row], number)
            first += layout.lengths[row] - prefix

    def _put(self, sequence: int, first: int, row: int, start: int, end: int,
             segment: int) -> None:
        """Place a row's tokens from ``start`` to ``end`` from ``first`` on."""
        positions = np.arange(start, end)
        at = slice(first, first + end - start)
        self.source[sequence, at] = row * self.place.shape[1] + positions
        self.positions[sequence, at] = positions
        self.segment[sequence, at] = segment
        self.place[row, start:end] = (
            sequence * self.source.shape[1] + first + np.arange(end - start))

    def order(self, groups: list[tuple[list[int], int]]) -> np.ndarray:
        """Tell where the rows' tokens lie when groups of sequences are joined end to end.

        Args:
            groups: Sequences, and the length that they are cut to, of each group.

        Returns:
            (R, T) int64 indices.
        """
        start = np.zeros(len(self.lengths), dtype=np.int64)
        total = 0
        for sequences, length in groups:
            start[sequences] = total + length * np.arange(len(sequences))
            total += length * len(sequences)
        sequence, within = np.divmod(self.place, self.source.shape[1])
        return start[sequence] + within

    def shared(self, sequences: list[int]) -> bool:
        """Whether any of the sequences holds several rows."""
        return bool((self.segment[sequences] > 1).any() or self.block[sequences].any())


def balanced_bins(sizes: list[int]) -> list[list[int]]:
    """Share out items among bins, so that bins as large as the fullest have the least room left.

    Bins are half as many as the items at least: more in one of them saves little padding, and
    attention over a sequence grows with the square of its length.

    Args:
        sizes: Sizes of the items.

    Returns:
        The indices of the items of each bin.
    """
    order = sorted(range(len(sizes)), key=lambda item: -sizes[item])
    found = []
    # From many bins to few: of equal ones the shortest sequences are taken.
    for count in range(len(sizes), (len(sizes) - 1) // 2, -1):
        bins: list[list[int]] = [[] for _ in range(count)]
        filled = [0] * count
        for item in order:
            emptiest = filled.index(min(filled))
            bins[emptiest].append(item)
            filled[emptiest] += sizes[item]
        found.append((count * max(filled), bins))
    return min(found, key=lambda one: one[0])[1]


def visible(segment: Tensor, block: Tensor) -> Tensor:
    """Tell which token sees which in packed sequences.

    Args:
        segment: (S, P) int64, see :class:`PackedRows`.
        block: (S, P) int64, likewise.

    Returns:
        (S, 1, P, P) bool: what a token (dim 2) sees (dim 3).
    """
    length = segment.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segment.device).tril()
    seen = (segment == _PREFIX)[:, None] | (segment[:, :, None] == segment[:, None])
    return (causal & seen & (block[:, :, None] == block[:, None]))[:, None]
