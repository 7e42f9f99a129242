# Copyright (c) mvp_mm authors. All rights reserved.
"""Samples several datasets in fixed proportions, endlessly."""
from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from math import gcd, lcm

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import ConcatDataset, Sampler

from mvp_mm.datasets.draws import DrawnIndex
from mvp_mm.registry import SAMPLERS

_MAX_PERIOD = 20_000
_ROTATIONS = 4096
_MAX_TRIES = 10_000


def integer_weights(ratios: Sequence[float]) -> list[int]:
    """Turn ratios into the smallest whole numbers in the same proportion.

    Args:
        ratios: Positive numbers of any sum, such as ``[1/3, 1/3, 1/6, 1/6]``
            or ``[33.3, 33.3, 16.7, 16.7]``.

    Returns:
        One weight per ratio; their sum is the period of the schedule.
    """
    if not ratios or any(not ratio > 0 for ratio in ratios):
        raise ValueError(f'RatioSampler: ratios must be positive numbers, got {list(ratios)}')
    fractions = [Fraction(ratio).limit_denominator(1000) for ratio in ratios]
    if any(fraction == 0 for fraction in fractions):
        raise ValueError(f'RatioSampler: ratios below 1/2000 are not supported, got {list(ratios)}')
    scale = lcm(*(fraction.denominator for fraction in fractions))
    weights = [int(fraction * scale) for fraction in fractions]
    weights = [weight // gcd(*weights) for weight in weights]
    if sum(weights) > _MAX_PERIOD:
        raise ValueError(
            f'RatioSampler: ratios {list(ratios)} only repeat after {sum(weights)} samples; '
            f'use rounder numbers (at most {_MAX_PERIOD})')
    return weights


def quota_schedule(weights: Sequence[int]) -> np.ndarray:
    """Spread the datasets over one period as evenly as whole samples allow.

    This is Balinski and Young's quota method: of the datasets that may take a sample without
    running ahead of their share, the one whose share falls due first takes it. After every
    prefix of ``n`` samples dataset ``i`` was drawn ``n * weights[i] / sum(weights)`` times,
    rounded down or up.

    Args:
        weights: Samples of each dataset in one period.

    Returns:
        (sum(weights),) int64, the dataset of each sample.
    """
    period = sum(weights)
    counts = [0] * len(weights)
    schedule = np.empty(period, dtype=np.int64)
    for step in range(period):
        open_ = [i for i, w in enumerate(weights) if counts[i] * period < w * (step + 1)]
        chosen = min(open_, key=lambda i: Fraction(counts[i] + 1, weights[i]))
        counts[chosen] += 1
        schedule[step] = chosen
    return schedule


def periodic_schedule(weights: Sequence[int]) -> np.ndarray | None:
    """Let every dataset return after a fixed number of samples, where that is possible.

    In any window of such a schedule a dataset is drawn as often as its share tells, rounded down
    or up. Possible only if every share is one in a whole number, and not always then.

    Args:
        weights: Samples of each dataset in one period.

    Returns:
        As of :func:`quota_schedule`, or None where no schedule was found.
    """
    period = sum(weights)
    if any(period % weight for weight in weights):
        return None
    schedule = np.full(period, -1, dtype=np.int64)
    order = sorted(range(len(weights)), key=lambda i: -weights[i])
    tries = itertools.count()

    def place(position: int) -> bool:
        if position == len(order):
            return True
        stride = period // weights[order[position]]
        for start in range(stride):
            slots = schedule[start::stride]
            if next(tries) < _MAX_TRIES and (slots < 0).all():
                slots[:] = order[position]
                if place(position + 1):
                    return True
                slots[:] = -1
        return False

    return schedule if place(0) else None


@lru_cache(maxsize=4096)
def equal_shares(costs: tuple[float, ...], ranks: int) -> list[list[int]]:
    """Share samples out, as many to each rank, so that all ranks have about the same cost.

    The most expensive sample left goes to the rank that has the least and is not full.

    Args:
        costs: Of a multiple of ``ranks`` samples.
        ranks: Number of ranks.

    Returns:
        Of each rank its samples, in their order.
    """
    shares: list[list[int]] = [[] for _ in range(ranks)]
    totals = [0.0] * ranks
    for sample in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        rank = min((r for r in range(ranks) if len(shares[r]) < len(costs) // ranks),
                   key=lambda r: (totals[r], r))
        shares[rank].append(sample)
        totals[rank] += costs[sample]
    return [sorted(share) for share in shares]


@SAMPLERS.register_module()
class RatioSampler(Sampler):
    """Draw from the members of a concatenated dataset in fixed proportions, endlessly.

    All ranks follow one global sequence. Every prefix of it holds each member's share to within
    one sample, and every window of whole periods holds it exactly. Any other window holds it to
    within one sample where each share is one in a whole number, as in the paper's mix, and such
    a schedule exists (:func:`periodic_schedule`); to within less than two otherwise. Each
    member is walked through one seeded permutation after another, so no item returns before all
    others of its member were seen. Of every ``world_size`` consecutive samples each rank takes
    one; who takes which rotates by a seeded draw, so that no rank is tied to one member.

    With ``costs``, a global batch, that is ``world_size * images_per_rank`` consecutive samples, is
    shared out so that all ranks have about the same cost (:func:`equal_shares`); the samples of
    every global batch stay the same.

    Any position can be computed directly, so :meth:`skip` (which mmengine's iteration-based loop
    calls on resuming) costs nothing.

    Args:
        dataset: The concatenated dataset.
        ratios: Share of each member, of any sum.
        batch_size: Keep so many consecutive samples of a rank in one member, so
            that a data loader with this batch size never mixes members (nor tasks, where every
            member has one). What is said of samples above then holds of such batches. Defaults to
            None: batches mix.
        shuffle: Whether to permute the items of each member. Defaults to True.
        seed: Random seed. Defaults to None: one seed shared by all ranks.
        costs: What an item of each member costs on average, such as tokens of its instructions.
            Defaults to None: ranks take turns.
        images_per_rank: Samples of a rank in one batch, for ``costs``; a launched run fills it in.
    """

    tells_draws = True

    def __init__(
        self,
        dataset: ConcatDataset,
        ratios: Sequence[float],
        batch_size: int | None = None,
        shuffle: bool = True,
        seed: int | None = None,
        costs: Sequence[float] | None = None,
        images_per_rank: int | None = None,
    ) -> None:
        if not hasattr(dataset, 'cumulative_sizes'):
            raise TypeError(
                f'RatioSampler needs a ConcatDataset, got {type(dataset).__name__}')
        self.sizes = np.diff([0, *dataset.cumulative_sizes]).tolist()
        self.offsets = [0, *dataset.cumulative_sizes[:-1]]
        if len(ratios) != len(self.sizes):
            raise ValueError(
                f'RatioSampler: {len(ratios)} ratios for {len(self.sizes)} datasets')
        if 0 in self.sizes:
            raise ValueError(f'RatioSampler: dataset {self.sizes.index(0)} is empty')
        if batch_size is not None and batch_size < 1:
            raise ValueError(f'RatioSampler: batch_size must be positive, got {batch_size}')
        if costs is not None:
            self._check_costs(costs, batch_size, images_per_rank)
        self.costs = None if costs is None else tuple(costs)
        self.images_per_rank = images_per_rank
        self.run = batch_size or 1
        self.rank, self.world_size = get_dist_info()
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        self.weights = integer_weights(ratios)
        periodic = periodic_schedule(self.weights)
        self.schedule = quota_schedule(self.weights) if periodic is None else periodic
        # Draws of the scheduled dataset before each position of the period, (period,).
        one_hot = self.schedule[:, None] == np.arange(len(self.weights))
        self._drawn = (one_hot.cumsum(0) - one_hot)[one_hot]
        self._rotations = np.random.default_rng(self.seed).integers(
            self.world_size, size=_ROTATIONS)
        self._orders: dict[int, tuple[int, np.ndarray]] = {}
        self._start = 0

    def skip(self, num_samples: int) -> None:
        """Let the next iteration start after the first ``num_samples`` samples of this rank."""
        if num_samples < 0:
            raise ValueError(f'num_samples must not be negative, got {num_samples}')
        self._start = num_samples

    def _check_costs(self, costs: Sequence[float], batch_size: int | None,
                     images_per_rank: int | None) -> None:
        if len(costs) != len(self.sizes) or any(not cost > 0 for cost in costs):
            raise ValueError(f'RatioSampler: costs must be one positive number for each of '
                             f'{len(self.sizes)} datasets, got {list(costs)}')
        if batch_size is not None:
            raise ValueError('RatioSampler: batches of one dataset (batch_size) cannot have equal '
                             'costs')
        if not images_per_rank or images_per_rank < 1:
            raise ValueError('RatioSampler: costs need images_per_rank, the batch size of a rank, '
                             f'got {images_per_rank}')

    def __iter__(self) -> Iterator[DrawnIndex]:
        for step in itertools.count(self._start):
            if self.costs is not None:
                yield self._index(self._balanced(step), 0)
                continue
            run, within = divmod(step, self.run)
            turn = (self.rank + self._rotations[run % _ROTATIONS]) % self.world_size
            yield self._index(run * self.world_size + int(turn), within)

    def __len__(self) -> int:
        """Items of all members together; iterating does not stop there."""
        return sum(self.sizes)

    def _balanced(self, step: int) -> int:
        """Compute the position in the global sequence of this rank's sample at a step."""
        batch, within = divmod(step, self.images_per_rank)
        size = self.world_size * self.images_per_rank
        phases = np.arange(batch * size, (batch + 1) * size) % len(self.schedule)
        shares = equal_shares(tuple(self.costs[member] for member in self.schedule[phases]),
                              self.world_size)
        turn = (self.rank + self._rotations[batch % _ROTATIONS]) % self.world_size
        return batch * size + shares[int(turn)][within]

    def _index(self, position: int, within: int) -> DrawnIndex:
        """Compute an item of the run at ``position`` of the global sequence of runs."""
        period, phase = divmod(position, len(self.schedule))
        member = int(self.schedule[phase])
        draw = period * self.weights[member] + int(self._drawn[phase])
        epoch, place = divmod(draw * self.run + within, self.sizes[member])
        item = self._place(member, epoch, place) if self.shuffle else place
        index = self.offsets[member] + item
        return DrawnIndex(index, (self.seed, epoch, index))

    def _place(self, member: int, epoch: int, place: int) -> int:
        """Look ``place`` up in the member's permutation of this epoch."""
        if self._orders.get(member, (-1, None))[0] != epoch:
            rng = np.random.default_rng([self.seed, member, epoch])
            self._orders[member] = (epoch, rng.permutation(self.sizes[member]))
        return int(self._orders[member][1][place])
