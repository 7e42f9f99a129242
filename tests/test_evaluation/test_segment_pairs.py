# Copyright (c) mvp_mm authors. All rights reserved.
"""Pixels of pairs of segments: the compiled kernel and numpy against loops."""
from __future__ import annotations

import numpy as np
import pytest

from mvp_mm.evaluation import overlaps
from mvp_mm.ops.cpu_kernel import load_kernel


@pytest.fixture(params=['kernel', 'numpy'], autouse=True)
def version(request, monkeypatch):
    """Every test runs with the kernel, where it is built, and without."""
    if request.param == 'numpy':
        monkeypatch.setattr(overlaps, 'load_kernel', lambda: None)
    elif load_kernel() is None:
        pytest.skip('the CPU kernels are not built: python -m mvp_mm.ops.cpu_kernel')


def by_loops(first, first_ids, second, second_ids):
    rows = {0: 0} | {number: k for k, number in enumerate(first_ids, 1)}
    columns = {0: 0} | {number: k for k, number in enumerate(second_ids, 1)}
    counts = np.zeros((len(rows), len(columns)), dtype=np.int64)
    for a, b in zip(first.ravel().tolist(), second.ravel().tolist(), strict=True):
        counts[rows[a], columns[b]] += 1
    return counts


def random_map(rng, shape, dtype, top):
    """Runs of random length over void, with ids up to ``top`` in any order."""
    ids = rng.choice(np.arange(1, top + 1), int(rng.integers(1, 30)), replace=False)
    size = int(np.prod(shape))
    flat = np.repeat(rng.choice(np.append(ids, 0), size), rng.integers(1, 40, size))[:size]
    return flat.astype(dtype).reshape(shape), ids.tolist()


@pytest.mark.parametrize('first_type', [np.int32, np.int64])
@pytest.mark.parametrize('second_type', [np.int32, np.int64, np.uint32])
@pytest.mark.parametrize('shape', [(1, 1), (3, 5), (64, 16), (41, 53)])
@pytest.mark.parametrize('top', [30, 2**24])
def test_counts_equal_loops(first_type, second_type, shape, top):
    rng = np.random.default_rng(shape[0])
    pair = (*random_map(rng, shape, first_type, top), *random_map(rng, shape, second_type, top))
    found = overlaps.count_pairs(*pair)
    assert found.dtype == np.int64
    assert np.array_equal(found, by_loops(*pair))


def test_pixels_that_all_differ():
    first = np.arange(1, 2501, dtype=np.int32).reshape(50, 50)
    ids = list(range(1, 2501))
    found = overlaps.count_pairs(first, ids, first[::-1], ids)
    assert np.array_equal(found, by_loops(first, ids, first[::-1], ids))


def test_maps_that_are_not_contiguous():
    rng = np.random.default_rng(0)
    (first, first_ids), (second, second_ids) = (
        random_map(rng, (40, 40), np.int32, 99) for _ in range(2))
    pair = first.T, first_ids, second[::-1], second_ids
    assert np.array_equal(overlaps.count_pairs(*pair), by_loops(*pair))


@pytest.mark.parametrize('shape', [(0, 0), (0, 7)])
def test_an_empty_map_has_no_pixels(shape):
    empty = np.zeros(shape, dtype=np.int32)
    assert np.array_equal(overlaps.count_pairs(empty, [4], empty, []), np.zeros((2, 1)))


@pytest.mark.parametrize(('ids', 'message'), [
    ([5], r'does not list: \[-3, 9\]'), ([9, -3, 9], 'must be distinct and not 0'),
    ([9, -3, 0], 'must be distinct and not 0')])
def test_bad_ids_are_named(ids, message):
    good, bad = np.zeros((2, 3), dtype=np.int32), np.array([[0, 9, 9], [5, 5, -3]], dtype=np.int32)
    for pair in ((good, [], bad, ids), (bad, ids, good, [])):
        with pytest.raises(ValueError, match=message):
            overlaps.count_pairs(*pair)
