# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import ConcatDataset, DataLoader

from mvp_mm.datasets.samplers import RatioSampler, ratio_sampler

RATIOS = [1 / 3, 1 / 3, 1 / 6, 1 / 6]
SIZES = [70, 40, 300, 9]


@pytest.fixture
def dataset():
    return ConcatDataset([list(range(size)) for size in SIZES])


def draw(sampler, count):
    return list(islice(sampler, count))


def members(indices):
    return np.searchsorted(np.cumsum(SIZES), indices, side='right')


def on_rank(monkeypatch, rank, world_size, *args, **kwargs):
    monkeypatch.setattr(ratio_sampler, 'get_dist_info', lambda: (rank, world_size))
    return RatioSampler(*args, **kwargs)


@pytest.mark.parametrize('ratios', [
    RATIOS, [33.3, 33.3, 16.7, 16.7], [1, 1, 1, 97], [0.61, 0.23, 0.11, 0.05], [5, 4, 4, 4],
])
def test_every_prefix_is_exact_to_one_sample(dataset, ratios):
    drawn = members(draw(RatioSampler(dataset, ratios, seed=3), 2500))
    counts = (drawn[:, None] == np.arange(4)).cumsum(0)
    share = np.array(ratios) / sum(ratios)
    expected = np.arange(1, 2501)[:, None] * share
    assert np.abs(counts - expected).max() < 1 + 1e-9


def test_windows_of_whole_periods_are_exact(dataset):
    drawn = members(draw(RatioSampler(dataset, RATIOS, seed=3), 1200))
    for start in range(0, 1140, 7):
        counts = np.bincount(drawn[start:start + 60], minlength=4)
        assert counts.tolist() == [20, 20, 10, 10]


def test_every_item_once_per_epoch_and_in_a_new_order(dataset):
    indices = np.array(draw(RatioSampler(dataset, RATIOS, seed=3), 600))
    second = indices[members(indices) == 1]
    assert sorted(second[:40]) == sorted(second[40:80]) == list(range(70, 110))
    assert second[:40].tolist() != second[40:80].tolist()


def test_seed_decides_the_order(dataset):
    first = draw(RatioSampler(dataset, RATIOS, seed=3), 50)
    assert first == draw(RatioSampler(dataset, RATIOS, seed=3), 50)
    assert first != draw(RatioSampler(dataset, RATIOS, seed=4), 50)


def test_without_shuffle_members_are_read_in_order(dataset):
    indices = np.array(draw(RatioSampler(dataset, RATIOS, shuffle=False, seed=3), 300))
    assert indices[members(indices) == 0][:70].tolist() == list(range(70))


@pytest.mark.parametrize('world_size', [2, 3, 8])
def test_ranks_share_one_global_sequence(dataset, monkeypatch, world_size):
    alone = draw(RatioSampler(dataset, RATIOS, seed=3), 60 * world_size)
    ranks = [draw(on_rank(monkeypatch, rank, world_size, dataset, RATIOS, seed=3), 60)
             for rank in range(world_size)]
    for step, taken in enumerate(zip(*ranks, strict=True)):
        assert sorted(taken) == sorted(alone[step * world_size:(step + 1) * world_size])


def test_no_rank_is_tied_to_one_member(monkeypatch):
    halves = ConcatDataset([list(range(50)), list(range(50))])
    drawn = np.array(draw(on_rank(monkeypatch, 0, 2, halves, [1, 1], seed=3), 400)) < 50
    assert 0.4 < drawn.mean() < 0.6


@pytest.mark.parametrize('rank', [0, 1])
def test_skip_continues_the_sequence(dataset, monkeypatch, rank):
    whole = draw(on_rank(monkeypatch, rank, 2, dataset, RATIOS, seed=3), 500)
    resumed = on_rank(monkeypatch, rank, 2, dataset, RATIOS, seed=3)
    resumed.skip(437)
    assert draw(resumed, 63) == whole[437:]


@pytest.mark.parametrize('num_workers', [0, 2])
def test_resuming_mmengines_loop_uses_skip(dataset, num_workers):
    def batches():
        sampler = RatioSampler(dataset, RATIOS, seed=3)
        return _InfiniteDataloaderIterator(
            DataLoader(dataset, batch_size=4, sampler=sampler, num_workers=num_workers))

    straight = [next_.tolist() for next_ in islice(batches(), 12)]
    resumed = batches()
    resumed.skip_iter(9)
    assert [next(resumed).tolist() for _ in range(3)] == straight[9:]


@pytest.mark.parametrize('ratios, message', [
    ([1, 1], '2 ratios for 4 datasets'),
    ([1, 1, 0, 1], 'positive'),
    ([1, 1, -1, 1], 'positive'),
    ([0.3331, 0.123457, 0.77711, 0.54321], 'rounder numbers'),
])
def test_bad_ratios_are_refused(dataset, ratios, message):
    with pytest.raises(ValueError, match=message):
        RatioSampler(dataset, ratios, seed=3)


def test_an_empty_member_is_refused():
    with pytest.raises(ValueError, match='dataset 1 is empty'):
        RatioSampler(ConcatDataset([[1], []]), [1, 1], seed=3)


def test_a_plain_dataset_is_refused():
    with pytest.raises(TypeError, match='ConcatDataset, got list'):
        RatioSampler([1, 2], [1], seed=3)


@pytest.mark.parametrize('shares, bound', [
    ([6, 2, 2, 2, 3, 1.5, 1.5], 1), (RATIOS, 1), ([5, 4, 4, 4], 2), ([33.3, 33.3, 16.7, 16.7], 2)])
def test_no_window_is_off_by_the_bound(shares, bound):
    members_ = ConcatDataset([[0] * 10] * len(shares))
    schedule = RatioSampler(members_, shares, seed=3).schedule
    period = len(schedule)
    drawn = np.tile(schedule, 3)[:, None] == np.arange(len(shares))
    counts = np.concatenate([np.zeros((1, len(shares))), drawn.cumsum(0)])
    share = np.bincount(schedule) / period
    for length in range(1, period, max(period // 50, 1)):
        off = counts[length:length + period] - counts[:period] - length * share
        assert np.abs(off).max() < bound


@pytest.mark.parametrize('world_size', [1, 2])
def test_a_batch_keeps_one_member_if_asked(dataset, monkeypatch, world_size):
    ranks = [np.array(draw(on_rank(monkeypatch, rank, world_size, dataset, RATIOS, batch_size=4,
                                   seed=3), 480)) for rank in range(world_size)]
    batches = [members(taken).reshape(-1, 4) for taken in ranks]
    assert all((batch == batch[:, :1]).all() for batch in batches)
    counts = np.bincount(np.concatenate([batch[:, 0] for batch in batches]), minlength=4)
    assert (counts == 120 * world_size * np.array([2, 2, 1, 1]) // 6).all()


def test_batches_of_one_member_walk_through_all_of_its_items(dataset):
    indices = np.array(draw(RatioSampler(dataset, RATIOS, batch_size=4, seed=3), 600))
    second = indices[members(indices) == 1]
    assert sorted(second[:40]) == list(range(70, 110))


def test_batches_mix_members_by_default(dataset):
    drawn = members(draw(RatioSampler(dataset, RATIOS, seed=3), 480)).reshape(-1, 4)
    assert all(len(set(batch)) > 1 for batch in drawn.tolist())


def test_skip_inside_a_batch_of_one_member(dataset):
    whole = draw(RatioSampler(dataset, RATIOS, batch_size=4, seed=3), 100)
    resumed = RatioSampler(dataset, RATIOS, batch_size=4, seed=3)
    resumed.skip(57)
    assert draw(resumed, 43) == whole[57:]
