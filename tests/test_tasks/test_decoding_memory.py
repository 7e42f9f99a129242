# Copyright (c) mvp_mm authors. All rights reserved.
"""Decoding in bands and groups gives what decoding at once gives."""
from __future__ import annotations

import pytest
import torch

from mvp_mm.tasks import decoding
from mvp_mm.tasks.decoding import bands, frames
from mvp_mm.tasks.decoding.bands import MaskBands
from tests.test_tasks.raws import META, make_raw, make_sample

LARGE = dict(ori_shape=(61, 83), img_shape=(57, 77), batch_input_shape=(64, 96))


@pytest.mark.parametrize('meta, size', [
    (LARGE, (16, 24)), (dict(LARGE, img_shape=(64, 96)), (64, 96)), (META, (16, 16))])
def test_bands_are_the_rows_of_full_maps(monkeypatch, meta, size):
    masks = torch.randn(6, *size, generator=torch.Generator().manual_seed(0))
    queries = torch.tensor([0, 2, 5])
    monkeypatch.setattr(bands, '_BUDGET', 3 * 96 * 16)
    parts = [logits[rows] for logits, rows in MaskBands(masks, queries, meta)]
    assert len(parts) > 1 and all(part.shape[1] % 8 == 0 for part in parts[:-1])
    full = decoding.rescale_mask_logits(masks[queries], meta)
    assert torch.allclose(torch.cat(parts, 1), full, rtol=0, atol=1e-5)


def test_logits_in_the_frame_of_the_image_are_not_copied(monkeypatch):
    masks = torch.randn(6, 64, 96, generator=torch.Generator().manual_seed(0))
    queries = torch.tensor([0, 2, 5])
    monkeypatch.setattr(bands, '_BUDGET', 3 * 96 * 16)
    (logits, rows), = MaskBands(masks, queries, dict.fromkeys(LARGE, (64, 96)))
    assert logits is masks
    assert torch.equal(rows, queries)


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('count', [1, 2, 9])
def test_answers_do_not_depend_on_the_size_of_the_bands(monkeypatch, seed, count):
    raw = make_raw(seed, queries=count, dynamic=max(1, count - 2))
    sentence = make_raw(seed, queries=count, sentence=True)
    sample = make_sample(use_stuff_queries=True, meta=dict(LARGE, batch_input_shape=(64, 80)))
    found = []
    for budget in (2**22, 8 * 83):
        monkeypatch.setattr(bands, '_BUDGET', budget)
        panoptic = decoding.decode_panoptic(
            raw, sample, score_thr=0.1, mask_thr=0.5, overlap_thr=0.5)
        instances = decoding.decode_instances(
            raw, sample, max_per_image=20, score_thr=0.05, things_only=False, with_masks=True)
        several = decoding.decode_generalized(sentence, sample, score_thr=0.4, with_masks=True)
        found.append((panoptic['panoptic'], decoding.decode_semantic(raw, sample),
                      instances.scores, instances.labels, instances.masks, several.masks,
                      torch.tensor([s['label'] for s in panoptic['segments_info']])))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_only_masks_of_kept_answers_are_written(monkeypatch):
    raw, written = make_raw(7, queries=12), []
    plain = decoding.decode_instances(
        raw, make_sample(), max_per_image=40, score_thr=0., things_only=False, with_masks=True)
    reorder = frames._reorder
    monkeypatch.setattr(frames, '_reorder', lambda masks, places: written.append(
        len(places)) or reorder(masks, places))
    found = decoding.decode_instances(
        raw, make_sample(), max_per_image=40, score_thr=0.3, things_only=False, with_masks=True)
    kept = plain.scores > 0.3
    assert 0 < kept.sum() < len(plain)
    assert torch.equal(found.scores, plain.scores[kept])
    assert torch.equal(found.masks, plain.masks[kept])
    assert written == [int(kept.sum())]


@pytest.mark.parametrize('places', [
    [], [0], [2, 0, 1], [0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [1, 0, 3, 4, 2]])
def test_rows_are_reordered_in_place(places):
    masks = torch.rand(5, 3, 4, generator=torch.Generator().manual_seed(0)) > 0.5
    expected = masks[torch.tensor(places, dtype=torch.int64)]
    assert torch.equal(frames._reorder(masks.clone(), places), expected)
