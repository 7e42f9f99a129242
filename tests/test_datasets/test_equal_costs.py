# Copyright (c) mvp_mm authors. All rights reserved.
"""Ranks that get batches of equal cost."""
from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from torch.utils.data import ConcatDataset

from mvp_mm.datasets.samplers import RatioSampler, ratio_sampler
from mvp_mm.datasets.samplers.ratio_sampler import equal_shares

# The paper's mix: COCO, three RefCOCO sets, Objects365, two parts of GoldG.
RATIOS = [12, 4, 4, 4, 6, 3, 3]
# Tokens of an image's instructions.
COSTS = [1400, 700, 700, 700, 1000, 500, 500]
SIZES = [300, 90, 80, 100, 200, 70, 60]
RANKS, IMAGES = 8, 8


@pytest.fixture
def dataset():
    return ConcatDataset([list(range(size)) for size in SIZES])


def on_rank(monkeypatch, rank, dataset, ranks=RANKS, **settings):
    monkeypatch.setattr(ratio_sampler, 'get_dist_info', lambda: (rank, ranks))
    return RatioSampler(dataset, RATIOS, seed=3, **settings)


def balanced(monkeypatch, rank, dataset, ranks=RANKS):
    return on_rank(monkeypatch, rank, dataset, ranks, costs=COSTS,
                   images_per_rank=RANKS * IMAGES // ranks)


def slowest(samplers, batches=60):
    """The most that the slowest rank has over the mean, averaged over batches."""
    drawn = np.array([list(islice(s, batches * IMAGES)) for s in samplers])
    members = np.searchsorted(np.cumsum(SIZES), drawn, side='right')
    tokens = np.array(COSTS)[members].reshape(len(samplers), batches, IMAGES).sum(2)
    return (tokens.max(0) / tokens.mean(0) - 1).mean()


def test_the_slowest_rank_has_five_percent_more_tokens_at_most(dataset, monkeypatch):
    plain = slowest([on_rank(monkeypatch, r, dataset) for r in range(RANKS)])
    equal = slowest([balanced(monkeypatch, r, dataset) for r in range(RANKS)])
    assert equal <= 0.05 < plain


def test_a_global_batch_holds_the_same_samples_as_without(dataset, monkeypatch):
    plain = [list(islice(on_rank(monkeypatch, r, dataset), 5 * IMAGES)) for r in range(RANKS)]
    equal = [list(islice(balanced(monkeypatch, r, dataset), 5 * IMAGES)) for r in range(RANKS)]
    for start in range(0, 5 * IMAGES, IMAGES):
        found, expected = (sorted(i for rank in ranks for i in rank[start:start + IMAGES])
                           for ranks in (equal, plain))
        assert found == expected


@pytest.mark.parametrize('ranks', [2, 4])
def test_another_world_size_goes_on_with_the_same_global_batches(dataset, monkeypatch, ranks):
    total = RANKS * IMAGES
    eight = [list(islice(balanced(monkeypatch, r, dataset), 3 * IMAGES)) for r in range(RANKS)]
    fewer = [list(islice(balanced(monkeypatch, r, dataset, ranks), 3 * total // ranks))
             for r in range(ranks)]
    for step in range(3):
        batches = [sorted(i for rank in found for i in
                          rank[step * total // len(found):(step + 1) * total // len(found)])
                   for found in (eight, fewer)]
        assert batches[0] == batches[1]


def test_skip_continues_the_sequence(dataset, monkeypatch):
    whole = list(islice(balanced(monkeypatch, 5, dataset), 200))
    resumed = balanced(monkeypatch, 5, dataset)
    resumed.skip(131)
    assert list(islice(resumed, 69)) == whole[131:]


def test_no_rank_is_tied_to_one_share(dataset, monkeypatch):
    drawn = np.array(list(islice(balanced(monkeypatch, 0, dataset), 36 * IMAGES * 5)))
    share = (drawn < SIZES[0]).mean()
    assert 0.28 < share < 0.39


def test_every_rank_gets_as_many_samples():
    shares = equal_shares((5.0, 1.0, 1.0, 1.0, 1.0, 1.0), 2)
    assert sorted(map(len, shares)) == [3, 3]
    assert sorted(sum(shares, [])) == list(range(6))


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(costs=[1, 2], images_per_rank=2), 'one positive number for each of 7 datasets'),
    (dict(costs=[0] * 7, images_per_rank=2), 'one positive number'),
    (dict(costs=[1] * 7), 'costs need images_per_rank'),
    (dict(costs=[1] * 7, images_per_rank=2, batch_size=2), 'cannot have equal costs')])
def test_costs_that_do_not_fit_are_refused(dataset, monkeypatch, settings, message):
    with pytest.raises(ValueError, match=message):
        on_rank(monkeypatch, 0, dataset, **settings)
