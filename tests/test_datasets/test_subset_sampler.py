# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import pytest

from mvp_mm.datasets.samplers import SubsetSampler, subset_sampler


def test_the_subset_is_random_and_always_the_same():
    first, again = (list(SubsetSampler(range(1000), 50)) for _ in range(2))
    assert first == again == sorted(set(first)) and len(first) == 50
    assert first != list(range(50)) and max(first) > 900
    assert first != list(SubsetSampler(range(1000), 50, seed=1))


def test_a_pass_or_an_epoch_changes_nothing():
    sampler = SubsetSampler(range(100), 10)
    first = list(sampler)
    sampler.set_epoch(3)
    assert list(sampler) == first and len(sampler) == 10


def test_ranks_share_the_subset_and_repeat_nothing(monkeypatch):
    whole = list(SubsetSampler(range(100), 11))
    shares = []
    for rank in range(4):
        monkeypatch.setattr(subset_sampler, 'get_dist_info', lambda rank=rank: (rank, 4))
        shares.append(list(SubsetSampler(range(100), 11)))
    assert sorted(i for share in shares for i in share) == whole
    assert [len(share) for share in shares] == [3, 3, 3, 2]


def test_a_small_dataset_is_read_whole():
    assert list(SubsetSampler(range(5), 50)) == [0, 1, 2, 3, 4]


def test_a_subset_of_nothing_is_refused():
    with pytest.raises(ValueError, match='number must be 1 or more, got 0'):
        SubsetSampler(range(5), 0)
