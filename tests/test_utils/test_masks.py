# Copyright (c) mvp_mm authors. All rights reserved.
"""The gate from a record's segmentation to pixels."""
from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mvp_mm.utils.masks import rle_masks, to_rle, unpack_runs
from mvp_mm.utils.records import MAX_COORDINATE

H, W = 20, 30
BOX = np.zeros((H, W), np.uint8)
BOX[12:17, 4:9] = 1


def runs_of(mask):
    flat = mask.ravel(order='F')
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]), flat.size - 1)
    runs = np.diff(ends, prepend=-1).tolist()
    return [0, *runs] if flat[0] else runs


def encode(mask):
    return coco_mask.encode(np.asfortranarray(mask))


GOOD = runs_of(BOX)
PACKED = encode(BOX)['counts'].decode()


@pytest.mark.parametrize('seed', range(8))
def test_compressed_codes_are_unpacked_as_pycocotools_packs_them(seed):
    rng = np.random.default_rng(seed)
    for _ in range(20):
        shape = tuple(rng.integers(1, 90, 2))
        mask = (rng.random(shape) < rng.random()).astype(np.uint8)
        code = encode(mask)['counts']
        assert unpack_runs(code).tolist() == runs_of(mask)
        assert unpack_runs(code.decode()).tolist() == runs_of(mask)


def test_long_runs_are_unpacked():
    mask = np.zeros((4000, 3000), np.uint8)
    mask[3:3990, 2:2999] = 1
    assert unpack_runs(encode(mask)['counts']).tolist() == runs_of(mask)


@pytest.mark.parametrize('counts', [GOOD, [float(run) for run in GOOD], PACKED, PACKED.encode()])
def test_both_forms_of_a_code_are_read(counts):
    rle = to_rle(dict(size=[H, W], counts=counts), H, W, 'here')
    assert np.array_equal(rle_masks([rle], H, W)[0], BOX)


def test_runs_of_no_length_change_nothing():
    gaps = [*GOOD[:2], 0, 0, 3, 0, GOOD[2] - 3, *GOOD[3:]]
    rle = to_rle(dict(size=[H, W], counts=gaps), H, W, 'here')
    assert rle['counts'] == encode(BOX)['counts']


@pytest.mark.parametrize('segmentation, message', [
    (dict(size=[H, W], counts=GOOD[:-3]), 'the runs cover'),
    (dict(size=[H, W], counts=[*GOOD, 500]), 'the runs cover'),
    (dict(size=[H, W], counts=[*GOOD[:-1], 10**8, 10**8]), 'the runs cover'),
    (dict(size=[H, W], counts=[*GOOD[:-1], 10**30]), 'must be whole numbers'),
    (dict(size=[H, W], counts=[700, -100]), 'a run length is negative'),
    (dict(size=[H, W], counts=[600.5, -0.5]), 'must be whole numbers'),
    (dict(size=[H, W], counts=[float('nan'), 600]), 'must be whole numbers'),
    (dict(size=[H, W], counts=[True, 599]), 'must be whole numbers'),
    (dict(size=[H, W], counts=['600']), 'must be whole numbers'),
    (dict(size=[H, W], counts=[]), 'must be whole numbers'),
    (dict(size=[H, W], counts=None), 'must be whole numbers'),
    (dict(size=[H, W], counts=PACKED * 30), 'the runs cover'),
    (dict(size=[H, W], counts=PACKED[:3]), 'the runs cover|no compressed RLE'),
    (dict(size=[H, W], counts=''), 'the runs cover 0 pixels'),
    (dict(size=[H, W], counts='käte'), 'no compressed RLE'),
    (dict(size=[H, W], counts='雪'), 'no compressed RLE'),
    (dict(size=[H, W], counts='oooooooo0'), 'more than 6 digits'),
    (dict(size=[W, H], counts=GOOD), 'RLE of size'), (dict(size=H, counts=GOOD), 'RLE of size'),
    (dict(counts=GOOD), 'neither polygons nor RLE'), (None, 'neither polygons nor RLE'),
    ('x', 'neither'), (7, 'neither'), (dict(polygon=[[1, 1, 2, 2, 3, 3]]), 'neither'),
    ([], 'at least three points'), ([[]], 'at least three points'),
    ([1, 1, 9, 1, 9, 9], 'at least three points'), ([[1, 1, 9, 9]], 'at least three points'),
    ([[1, 1, 9, 1, 9, 9, 1]], 'at least three points'), ([[[1, 1], [9, 1], [9, 9]]], 'at least'),
    ([dict(x=1)], 'at least'), ([None], 'at least'),
    ([[1, 1, 9, 1, 9, '9']], "has '9' among its coordinates"),
    ([[1, 1, 9, 1, 9, True]], 'has True among'), ([[1, 1, 9, 1, 9, [9]]], r'has \[9\] among'),
    ([[1, 1, float('nan'), 1, 9, 9]], 'not finite or beyond'),
    ([[float('nan'), 1, 9, 1, 9, 9]], 'not finite or beyond'),
    ([[1, 1, float('inf'), 1, 9, 9]], 'not finite or beyond'),
    ([[1, 1, -10**400, 1, 9, 9]], 'not finite or beyond'),
    ([[1, 1, 9, 1, 9, MAX_COORDINATE + 1]], 'not finite or beyond'),
    ([[-1e6, 0, 1e6, 0] * 9], 'outline is longer')])
def test_everything_else_is_one_error_that_names_the_record(segmentation, message):
    with pytest.raises(ValueError, match=f'^ann.json, image 1, annotation 7: .*({message})'):
        to_rle(segmentation, H, W, 'ann.json, image 1, annotation 7')


def test_coordinates_far_outside_are_read():
    rle = to_rle([[13, 13, 1e6, 13, 22, 19]], H, W, 'here')
    assert 0 < coco_mask.area(rle) < H * W


def test_an_image_that_no_mask_can_cover_is_refused():
    with pytest.raises(ValueError, match='here: an image of .* is too large for a mask'):
        to_rle([[1, 1, 9, 1, 9, 9]], 1 << 20, 1 << 20, 'here')
