# Copyright (c) mvp_mm authors. All rights reserved.
"""Panoptic decoding against plain loops, full maps and mmdet."""
from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.models.seg_heads.panoptic_fusion_heads import MaskFormerFusionHead
from mmengine.config import ConfigDict

from mvp_mm.ops.cpu_kernel import load_kernel
from mvp_mm.structures import RawPrediction
from mvp_mm.tasks import decoding
from mvp_mm.tasks.decoding import tiles
from mvp_mm.tasks.decoding.bands import MaskBands
from mvp_mm.tasks.decoding.tiles import divide_pixels
from tests.test_tasks.raws import make_raw, make_sample


def panoptic_by_loops(raw, sample, score_thr, mask_thr, overlap_thr):
    logits, is_thing = raw.logits.clone(), sample.instruction.is_thing
    scores, labels = logits.softmax(-1).max(-1)
    keep = [q for q in range(len(logits)) if labels[q] < len(is_thing) and scores[q] > score_thr]
    panoptic, segments, stuff = torch.zeros(30, 50, dtype=torch.int32), [], {}
    if not keep:
        return panoptic, segments
    masks = decoding.rescale_mask_logits(raw.mask_logits, sample.metainfo).sigmoid()[keep]
    owner = (masks * scores[keep][:, None, None]).argmax(0)
    for place, query in enumerate(keep):
        claimed = masks[place] >= mask_thr
        pixels = (owner == place) & claimed
        if not pixels.any() or (owner == place).sum() / claimed.sum() < overlap_thr:
            continue
        label = int(labels[query])
        if not is_thing[label] and label in stuff:
            panoptic[pixels] = stuff[label]
            continue
        segments.append((len(segments) + 1, label, bool(is_thing[label])))
        panoptic[pixels] = len(segments)
        if not is_thing[label]:
            stuff[label] = len(segments)
    return panoptic, segments


@pytest.mark.usefixtures('way')
@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize('use_stuff_queries', [False, True])
def test_panoptic_matches_loops(seed, use_stuff_queries):
    raw = make_raw(seed)
    sample = make_sample(use_stuff_queries=use_stuff_queries)
    thresholds = dict(score_thr=0.2, mask_thr=0.5, overlap_thr=0.3)
    panoptic, segments = panoptic_by_loops(raw, sample, **thresholds)
    found = decoding.decode_panoptic(raw, sample, **thresholds)
    assert found['panoptic'].dtype == torch.int32
    assert torch.equal(found['panoptic'], panoptic)
    assert [(s['id'], s['label'], s['isthing']) for s in found['segments_info']] == segments
    assert set(found['panoptic'].unique().tolist()) - {0} == {s[0] for s in segments}


def noisy_masks(generator, count, size, smooth):
    """Mask logits from large smooth blobs to noise of every pixel."""
    coarse = torch.randn(1, count, *(max(2, side // smooth) for side in size), generator=generator)
    return F.interpolate(coarse, size, mode='bilinear', align_corners=False)[0] * 6 - 2


def whole(logits, rows):
    """The rows of logits that lie in the image's frame already."""
    return MaskBands(logits, rows, dict.fromkeys(
        ('ori_shape', 'img_shape', 'batch_input_shape'), tuple(logits.shape[-2:])))


def divide_densely(logits, rows, scores, mask_thr, overlap_thr):
    """Owners and survivors from full maps."""
    masks = logits[rows].sigmoid()
    owner = (masks * scores[:, None, None]).argmax(0)
    owned = torch.bincount(owner.flatten(), minlength=len(rows))
    claimed = (masks >= mask_thr).flatten(1).sum(1)
    owner[masks.gather(0, owner[None])[0] < mask_thr] = len(rows)
    visible = torch.bincount(owner.flatten(), minlength=len(rows) + 1)[:-1]
    return owner, (visible > 0) & (owned >= overlap_thr * claimed)


@pytest.fixture(params=['compiled', 'torch'])
def way(request, monkeypatch):
    """With the compiled kernel and without it."""
    if request.param == 'torch':
        monkeypatch.setattr(tiles, 'load_kernel', lambda: None)
    elif load_kernel() is None:
        pytest.skip('the CPU kernels are not built: python -m mvp_mm.ops.cpu_kernel')


@pytest.mark.parametrize('size', [(64, 80), (61, 83), (5, 7), (8, 8), (9, 1)])
def test_extremes_are_those_of_every_tile(size):
    logits = torch.randn(5, *size, generator=torch.Generator().manual_seed(2))
    logits[3, 0, 0] = float('nan')
    rows = torch.tensor([1, 3, 4])
    highest, lowest = tiles._extremes(logits, rows)
    for extreme, found in ((torch.amax, highest), (torch.amin, lowest)):
        wanted = torch.stack([torch.stack([extreme(tile, (1, 2)) for tile in band.split(8, 2)], 1)
                              for band in logits[rows].split(8, 1)], 1)
        assert torch.equal(found.nan_to_num(99.), wanted.nan_to_num(99.))


@pytest.mark.usefixtures('way')
@pytest.mark.parametrize('size', [(64, 80), (61, 83), (5, 7), (8, 8), (9, 1)])
@pytest.mark.parametrize('smooth', [1, 4, 20])
@pytest.mark.parametrize('mask_thr, overlap_thr', [(0.5, 0.8), (0.3, 0.4), (0.7, 1.0)])
def test_tiles_divide_as_full_maps_do(size, smooth, mask_thr, overlap_thr):
    generator = torch.Generator().manual_seed(size[0] * smooth)
    logits = noisy_masks(generator, 14, size, smooth)
    rows = torch.tensor([1, 2, 3, 5, 8, 9, 13])
    scores = torch.rand(7, generator=generator) * 0.9 + 0.1
    found = divide_pixels(
        whole(logits, rows), scores, mask_thr=mask_thr, overlap_thr=overlap_thr)
    owner, alive = divide_densely(logits, rows, scores, mask_thr, overlap_thr)
    assert torch.equal(found.owner.long(), owner)
    assert torch.equal(found.alive, alive)


@pytest.mark.usefixtures('way')
@pytest.mark.parametrize('masks, canvas, filled, size', [
    ((32, 32), (128, 128), (96, 128), (240, 320)), ((32, 32), (128, 128), (128, 85), (300, 200)),
    ((64, 64), (256, 256), (192, 256), (60, 83)), ((16, 24), (64, 96), (57, 77), (57, 77)),
    ((64, 96), (64, 96), (50, 96), (50, 96)), ((16, 24), (64, 96), (64, 96), (64, 200))])
def test_masks_are_divided_in_the_frame_of_the_image(masks, canvas, filled, size):
    generator = torch.Generator().manual_seed(3)
    logits = noisy_masks(generator, 9, masks, 4).half()
    rows, scores = torch.tensor([0, 1, 3, 4, 8]), torch.rand(5, generator=generator) * 0.9 + 0.1
    meta = dict(ori_shape=size, img_shape=filled, batch_input_shape=canvas)
    found = divide_pixels(MaskBands(logits, rows, meta), scores, mask_thr=0.5, overlap_thr=0.6)
    full = decoding.rescale_mask_logits(logits, meta)
    owner, alive = divide_densely(full, rows, scores, 0.5, 0.6)
    assert torch.equal(found.owner.long(), owner)
    assert torch.equal(found.alive, alive)


@pytest.mark.usefixtures('way')
def test_a_pixel_that_is_no_number_belongs_to_nobody():
    logits = torch.full((2, 16, 16), -4.)
    logits[1] = 3.
    logits[0, 2, 3] = float('nan')
    found = divide_pixels(
        whole(logits, torch.arange(2)), torch.tensor([0.9, 0.5]), mask_thr=0.5, overlap_thr=0.8)
    wanted = torch.ones(16, 16, dtype=torch.int32)
    wanted[2, 3] = 2
    assert torch.equal(found.owner, wanted)
    assert found.alive.tolist() == [False, True]


def test_tiles_divide_in_pieces_as_at_once(monkeypatch):
    monkeypatch.setattr(tiles, 'load_kernel', lambda: None)
    generator = torch.Generator().manual_seed(1)
    logits = noisy_masks(generator, 9, (60, 60), 6)
    scores = torch.rand(9, generator=generator)
    at_once, pieces = [], []
    for results, pairs in ((at_once, tiles._PAIRS), (pieces, 20)):
        monkeypatch.setattr(tiles, '_PAIRS', pairs)
        results.append(divide_pixels(
            whole(logits, torch.arange(9)), scores, mask_thr=0.5, overlap_thr=0.6))
    assert torch.equal(at_once[0].owner, pieces[0].owner)
    assert torch.equal(at_once[0].alive, pieces[0].alive)


@pytest.mark.usefixtures('way')
@pytest.mark.parametrize('value', [0., 200., -200.])
def test_the_first_of_equal_masks_owns_all(value):
    logits = torch.full((3, 20, 20), value)
    found = divide_pixels(
        whole(logits, torch.arange(3)), torch.full((3,), 0.5), mask_thr=0.5, overlap_thr=0.8)
    assert (found.owner == (0 if value >= 0 else 3)).all()
    assert found.alive.tolist() == [value >= 0, False, False]


@pytest.mark.usefixtures('way')
@pytest.mark.parametrize('seed', range(3))
def test_panoptic_equals_mmdet(seed):
    generator = torch.Generator().manual_seed(seed)
    masks = noisy_masks(generator, 40, (48, 64), 8) - 6
    logits = torch.randn(40, 7, generator=generator) * 3
    things = np.array([True, True, True, True, False, False])
    sample = make_sample(things, meta=dict.fromkeys(
        ('ori_shape', 'img_shape', 'batch_input_shape'), (48, 64)))
    raw = RawPrediction(logits, torch.zeros(40, 4), masks, 40)
    before = masks.clone()
    found = decoding.decode_panoptic(raw, sample, score_thr=0.4, mask_thr=0.5, overlap_thr=0.3)
    assert torch.equal(raw.mask_logits, before)
    head = MaskFormerFusionHead(4, 2, test_cfg=ConfigDict(
        object_mask_thr=0.4, iou_thr=0.3, filter_low_score=True))
    expected = head.panoptic_postprocess(logits, masks).sem_seg[0]
    # mmdet writes label + 1000 * number for things, the label for stuff and 6 for void.
    labels = torch.tensor([6, *(segment['label'] for segment in found['segments_info'])])
    assert len(labels) > 3
    assert torch.equal(labels[found['panoptic'].long()], expected.long() % 1000)
    assert same_partition(found['panoptic'], expected)


def same_partition(first, second):
    pairs = torch.stack((first.flatten(), second.flatten())).unique(dim=1)
    return all(len(row.unique()) == pairs.shape[1] for row in pairs)


def test_panoptic_without_answers():
    raw = make_raw(0)
    raw.logits[:, -1] = 50.
    found = decoding.decode_panoptic(
        raw, make_sample(), score_thr=0.1, mask_thr=0.5, overlap_thr=0.8)
    assert found['panoptic'].shape == (30, 50) and not found['panoptic'].any()
    assert found['segments_info'] == []
