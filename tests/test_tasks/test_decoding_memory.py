# Copyright (c) mvp_mm authors. All rights reserved.
"""Decoding in bands and groups gives what decoding at once gives."""
from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch

from mvp_mm.tasks import decoding
from mvp_mm.tasks.decoding import bands, frames, tiles
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
    # The compiled kernel has no bands.
    monkeypatch.setattr(tiles, 'load_kernel', lambda: None)
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


def peak_of(run) -> float:
    """By how many megabytes a call raises the memory of the process at its highest."""
    def status(name):
        lines = Path('/proc/self/status').read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024

    gc.collect()
    # Forgets the highest amount so far.
    Path('/proc/self/clear_refs').write_text('5')
    before = status('VmRSS')
    run()
    return status('VmHWM') - before


@pytest.mark.skipif(not Path('/proc/self/clear_refs').exists(), reason='needs Linux')
@pytest.mark.parametrize('task', ['instance', 'semantic', 'panoptic', 'generalized'])
def test_a_large_image_needs_memory_for_its_answer_alone(monkeypatch, task):
    height, width, queries = 1200, 1600, 100
    meta = dict(ori_shape=(height, width), img_shape=(96, 128), batch_input_shape=(128, 128))
    raw = make_raw(0, queries=queries, dynamic=50, sentence=task == 'generalized')
    sample = make_sample(use_stuff_queries=True, meta=meta)
    run = dict(
        instance=lambda: decoding.decode_instances(
            raw, sample, max_per_image=100, score_thr=0.999, things_only=False, with_masks=True),
        semantic=lambda: decoding.decode_semantic(raw, sample),
        panoptic=lambda: decoding.decode_panoptic(
            raw, sample, score_thr=0.5, mask_thr=0.5, overlap_thr=0.5),
        generalized=lambda: decoding.decode_generalized(
            raw, sample, score_thr=0.999, with_masks=True))[task]
    # Maps of all queries take 732 MB; the answers are one map or a few masks.
    megapixels = height * width / 1e6
    assert peak_of(run) < 100 * megapixels
    monkeypatch.setattr(bands, '_BUDGET', 2**40)
    if task == 'semantic':
        assert peak_of(run) > 300 * megapixels


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
