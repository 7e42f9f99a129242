# Copyright (c) mvp_mm authors. All rights reserved.
"""Decoding against plain loops, and round trips through resizing and padding."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.models.seg_heads.panoptic_fusion_heads import MaskFormerFusionHead
from mmengine.config import ConfigDict

from mvp_mm.structures import (
    Answering,
    Instruction,
    PerceptionDataSample,
    RawPrediction,
    Segment,
    SegmentKind,
)
from mvp_mm.tasks import decoding
from mvp_mm.tasks.decoding import bands, frames, tiles, words
from mvp_mm.tasks.decoding.bands import MaskBands
from mvp_mm.tasks.decoding.tiles import divide_pixels

META = dict(ori_shape=(30, 50), img_shape=(38, 64), batch_input_shape=(64, 64))
THINGS = (True, False, True, False)


def make_sample(is_thing=THINGS, use_stuff_queries=False, meta=META):
    phrases = [f'phrase {k}' for k in range(len(is_thing))]
    instruction = Instruction(
        task='any', kind='word', prompt=[Segment(SegmentKind.PHRASE, p) for p in phrases],
        response=[], phrases=phrases, is_thing=np.array(is_thing, dtype=bool),
        use_stuff_queries=use_stuff_queries)
    sample = PerceptionDataSample(metainfo=meta)
    sample.instruction = instruction
    return sample


def make_raw(seed, queries=12, phrases=4, dynamic=8, sentence=False, **answering):
    generator = torch.Generator().manual_seed(seed)
    shape = (queries,) if sentence else (queries, phrases + 1)
    masks = torch.randn(queries, 6, 6, generator=generator) * 4
    return RawPrediction(
        logits=torch.randn(*shape, generator=generator) * 2,
        boxes=torch.rand(queries, 4, generator=generator) * 0.5,
        mask_logits=F.interpolate(masks[None], (16, 16), mode='bilinear')[0], num_dynamic=dynamic,
        answering=Answering(**answering))


def to_canvas(box):
    """An original xyxy box as cxcywh, normalised by the canvas."""
    scale = META['img_shape'][1] / META['ori_shape'][1], META['img_shape'][0] / META['ori_shape'][0]
    x1, y1, x2, y2 = (coordinate * scale[k % 2] / 64 for k, coordinate in enumerate(box))
    return torch.tensor([[(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]])


def test_boxes_land_in_the_original_frame():
    box = (5., 3., 41., 27.)
    found = decoding.rescale_boxes(to_canvas(box), META)
    assert torch.allclose(found, torch.tensor([box]), atol=1e-4)


def test_boxes_are_clipped():
    found = decoding.rescale_boxes(torch.tensor([[0.5, 0.5, 2., 2.]]), META)
    assert found.tolist() == [[0., 0., 50., 30.]]


def test_masks_land_in_the_original_frame():
    canvas = torch.full((1, 1, 64, 64), -8.)
    x1, y1, x2, y2 = 10, 6, 40, 24
    scale_x, scale_y = 64 / 50, 38 / 30
    canvas[..., round(y1 * scale_y):round(y2 * scale_y),
           round(x1 * scale_x):round(x2 * scale_x)] = 8.
    found = decoding.rescale_mask_logits(F.avg_pool2d(canvas, 4)[0], META)[0] > 0
    truth = torch.zeros(30, 50, dtype=torch.bool)
    truth[y1:y2, x1:x2] = True
    assert found.shape == (30, 50)
    assert (found & truth).sum() / (found | truth).sum() > 0.85


def test_no_masks():
    assert decoding.rescale_mask_logits(torch.zeros(0, 16, 16), META).shape == (0, 30, 50)


def panoptic_by_loops(raw, sample, score_thr, mask_thr, overlap_thr):
    logits, is_thing = raw.logits.clone(), sample.instruction.is_thing
    if raw.answering.separate_stuff and sample.instruction.use_stuff_queries:
        for query in range(len(logits)):
            for k in range(len(is_thing)):
                if is_thing[k] != (query < raw.num_dynamic):
                    logits[query, k] = float('-inf')
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


@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize('use_stuff_queries', [False, True])
def test_panoptic_matches_loops(seed, use_stuff_queries):
    raw = make_raw(seed, separate_stuff=True)
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
    assert torch.equal(found.owner, owner)
    assert torch.equal(found.alive, alive)


def test_tiles_divide_in_pieces_as_at_once(monkeypatch):
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


@pytest.mark.parametrize('value', [0., 200., -200.])
def test_the_first_of_equal_masks_owns_all(value):
    logits = torch.full((3, 20, 20), value)
    found = divide_pixels(
        whole(logits, torch.arange(3)), torch.full((3,), 0.5), mask_thr=0.5, overlap_thr=0.8)
    assert (found.owner == (0 if value >= 0 else 3)).all()
    assert found.alive.tolist() == [value >= 0, False, False]


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


def test_stuff_queries_name_stuff_only_where_they_are_separate():
    raw, sample = make_raw(3, separate_stuff=True), make_sample(use_stuff_queries=True)
    probabilities = decoding.word_probabilities(raw, sample)
    is_thing = torch.tensor(THINGS)
    assert (probabilities[:8, :-1][:, ~is_thing] == 0).all()
    assert (probabilities[8:, :-1][:, is_thing] == 0).all()
    assert torch.allclose(probabilities.sum(1), torch.ones(12))
    free = decoding.word_probabilities(make_raw(3), sample)
    assert torch.equal(free, raw.logits.softmax(-1))


def test_semantic_matches_loops(monkeypatch):
    raw, sample = make_raw(5), make_sample()
    monkeypatch.setattr(words, '_SEMANTIC_CHUNK', 1000)
    probabilities = raw.logits.softmax(-1)
    masks = decoding.rescale_mask_logits(raw.mask_logits, META).sigmoid()
    votes = torch.zeros(len(THINGS), 30, 50)
    for query in range(12):
        for k in range(len(THINGS)):
            votes[k] += probabilities[query, k] * masks[query]
    found = decoding.decode_semantic(raw, sample)
    assert found.dtype == torch.int64
    assert (found == votes.argmax(0)).float().mean() > 0.999


@pytest.mark.parametrize('things_only', [False, True])
def test_instances_match_loops(things_only):
    raw, sample = make_raw(7), make_sample()
    probabilities = raw.logits.softmax(-1)
    masks = decoding.rescale_mask_logits(raw.mask_logits, META).sigmoid()
    pairs = [(float(probabilities[q, k]), q, k) for q in range(12) for k in range(len(THINGS))
             if THINGS[k] or not things_only]
    expected = []
    for score, query, label in sorted(pairs, reverse=True)[:15]:
        mask = masks[query] > 0.5
        quality = float(masks[query][mask].mean()) if mask.any() else 0.
        expected.append((score * quality, query, label))
    expected = sorted((e for e in expected if e[0] > 0.05), reverse=True)
    found = decoding.decode_instances(
        raw, sample, max_per_image=15, score_thr=0.05, things_only=things_only, with_masks=True)
    boxes = decoding.rescale_boxes(raw.boxes, META)
    assert found.labels.tolist() == [label for _, _, label in expected]
    assert np.allclose(found.scores, [score for score, _, _ in expected], atol=1e-5)
    assert torch.equal(found.bboxes, boxes[[query for _, query, _ in expected]])
    assert torch.equal(found.masks, torch.stack([masks[q] > 0.5 for _, q, _ in expected]))


def test_instances_of_boxes_only():
    found = decoding.decode_instances(make_raw(1), make_sample(), max_per_image=5, score_thr=0.,
                                      things_only=True, with_masks=False)
    assert len(found) == 5 and 'masks' not in found
    assert (found.scores.diff() <= 0).all()


def test_instances_without_things():
    found = decoding.decode_instances(
        make_raw(1, phrases=2), make_sample((False, False)), max_per_image=5, score_thr=0.,
        things_only=True, with_masks=True)
    assert len(found) == 0 and found.masks.shape == (0, 30, 50)


def test_phrases_match_loops():
    raw, sample = make_raw(7), make_sample()
    probabilities = raw.logits.softmax(-1)
    expected = []
    for label in range(len(THINGS)):
        ranked = sorted(((float(probabilities[q, label]), q) for q in range(12)), reverse=True)
        expected += [(score, q, label) for score, q in ranked[:3] if score > 0.05]
    expected.sort(reverse=True)
    found = decoding.decode_phrases(
        raw, sample, max_per_phrase=3, score_thr=0.05, with_masks=False)
    boxes = decoding.rescale_boxes(raw.boxes, META)
    assert found.labels.tolist() == [label for _, _, label in expected]
    assert torch.equal(found.bboxes, boxes[[q for _, q, _ in expected]])
    assert np.allclose(found.scores, [score for score, _, _ in expected])


def test_a_loud_phrase_leaves_the_others_their_boxes():
    raw, sample = make_raw(3, queries=40, phrases=2), make_sample((True, True))
    raw.logits = torch.tensor([[9., 0., 0.]]).repeat(40, 1)
    raw.logits[7, 1] = 1.
    joint = decoding.decode_instances(
        raw, sample, max_per_image=40, score_thr=0., things_only=False, with_masks=False)
    assert 1 not in joint.labels
    found = decoding.decode_phrases(raw, sample, max_per_phrase=10, score_thr=0., with_masks=False)
    assert found.labels.bincount().tolist() == [10, 10]
    best = found[found.labels == 1].bboxes[0]
    assert torch.equal(best, decoding.rescale_boxes(raw.boxes, META)[7])


def referred(raw, same_iou):
    """Index of the query that answers."""
    raw.answering = Answering(same_iou=same_iou)
    found = decoding.decode_referring(raw, make_sample(), with_masks=False)
    boxes = decoding.rescale_boxes(raw.boxes, META)
    return int((boxes - found.bboxes).abs().sum(1).argmin())


def test_referring_takes_the_best_query():
    raw = make_raw(2, sentence=True)
    best = int(raw.logits.argmax())
    found = decoding.decode_referring(raw, make_sample(), with_masks=True)
    assert found.scores.tolist() == pytest.approx([float(raw.logits[best].sigmoid())])
    assert torch.equal(found.bboxes[0], decoding.rescale_boxes(raw.boxes, META)[best])
    mask = decoding.rescale_mask_logits(raw.mask_logits, META)[best] > 0
    assert torch.equal(found.masks[0], mask)


def test_queries_on_one_object_answer_together():
    raw = make_raw(2, queries=4, sentence=True)
    raw.boxes = torch.tensor([
        [.2, .2, .2, .2], [.6, .3, .2, .2], [.61, .3, .2, .2], [.62, .3, .2, .2]])
    raw.logits = torch.tensor([1., .4, .5, .3])
    assert referred(raw, same_iou=None) == 0
    # exp(.4) + exp(.5) + exp(.3) > exp(1); of the three the best one answers.
    assert referred(raw, same_iou=0.7) == 2


def test_boxes_without_area_stand_for_themselves():
    raw = make_raw(2, queries=3, sentence=True)
    raw.boxes = torch.tensor([[.2, .2, .1, .1], [.7, .7, 0., 0.], [.4, .4, 0., 0.]])
    raw.logits = torch.tensor([0., 1., .5])
    assert referred(raw, same_iou=0.7) == 1


def test_candidates_are_ranked():
    raw = make_raw(2, sentence=True)
    found = decoding.decode_candidates(raw, make_sample(), num=50, with_masks=True)
    order = raw.logits.argsort(descending=True)
    assert torch.equal(found.bboxes, decoding.rescale_boxes(raw.boxes, META)[order])
    masks = decoding.rescale_mask_logits(raw.mask_logits, META) > 0
    assert torch.equal(found.masks, masks[order])


def test_generalized_may_be_empty():
    raw = make_raw(4, sentence=True)
    count = int((raw.logits.sigmoid() > 0.6).sum())
    assert len(decoding.decode_generalized(
        raw, make_sample(), score_thr=0.6, with_masks=True)) == count > 0
    raw.logits -= 100
    empty = decoding.decode_generalized(raw, make_sample(), score_thr=0.6, with_masks=True)
    assert len(empty) == 0 and empty.masks.shape == (0, 30, 50) and empty.bboxes.shape == (0, 4)


LARGE = dict(ori_shape=(61, 83), img_shape=(57, 77), batch_input_shape=(64, 96))


@pytest.mark.parametrize('meta, size', [
    (LARGE, (16, 24)), (dict(LARGE, img_shape=(64, 96)), (64, 96)),
    (dict.fromkeys(LARGE, (64, 96)), (64, 96)), (META, (16, 16))])
def test_bands_are_the_rows_of_full_maps(monkeypatch, meta, size):
    masks = torch.randn(6, *size, generator=torch.Generator().manual_seed(0))
    queries = torch.tensor([0, 2, 5])
    monkeypatch.setattr(bands, '_BUDGET', 3 * 96 * 16)
    parts = [logits[rows] for logits, rows in MaskBands(masks, queries, meta)]
    assert len(parts) > 1 and all(part.shape[1] % 8 == 0 for part in parts[:-1])
    full = decoding.rescale_mask_logits(masks[queries], meta)
    assert torch.allclose(torch.cat(parts, 1), full, rtol=0, atol=1e-5)


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


def test_only_masks_of_kept_answers_are_held(monkeypatch):
    raw, held = make_raw(7, queries=12), []
    plain = decoding.decode_instances(
        raw, make_sample(), max_per_image=40, score_thr=0., things_only=False, with_masks=True)
    stack = frames._stack
    monkeypatch.setattr(frames, '_stack', lambda masks, *rest: held.append(
        sum(mask is not None for mask in masks)) or stack(masks, *rest))
    found = decoding.decode_instances(
        raw, make_sample(), max_per_image=40, score_thr=0.3, things_only=False, with_masks=True)
    kept = plain.scores > 0.3
    assert 0 < kept.sum() < len(plain)
    assert torch.equal(found.scores, plain.scores[kept])
    assert torch.equal(found.masks, plain.masks[kept])
    assert held[0] <= kept.sum()


def test_suppression_keeps_the_best_of_each_label():
    raw = make_raw(2, queries=4, phrases=2, dynamic=4, nms_iou=0.5)
    raw.boxes = torch.tensor([[.3, .3, .2, .2], [.3, .3, .2, .2], [.31, .3, .2, .2],
                              [.7, .7, .2, .2]])
    raw.logits = torch.tensor([[4., 0., 0.], [5., 0., 0.], [0., 3., 0.], [4.5, 0., 0.]])
    arguments = dict(max_per_image=10, score_thr=0.5, things_only=False, with_masks=False)
    found = decoding.decode_instances(raw, make_sample((True, True)), **arguments)
    boxes = decoding.rescale_boxes(raw.boxes, META)
    assert torch.equal(found.bboxes, boxes[[1, 3, 2]]) and found.labels.tolist() == [0, 0, 1]
    raw.answering = Answering()
    assert len(decoding.decode_instances(raw, make_sample((True, True)), **arguments)) == 4


def test_suppression_reaches_phrases_and_generalized_sentences():
    boxes = torch.tensor([[.3, .3, .2, .2], [.3, .3, .2, .2], [.7, .7, .2, .2]])
    words_raw = make_raw(2, queries=3, phrases=1, dynamic=3, nms_iou=0.5)
    words_raw.boxes, words_raw.logits = boxes, torch.tensor([[2., 0.], [3., 0.], [1., 0.]])
    sentence = make_raw(2, queries=3, sentence=True, nms_iou=0.5)
    sentence.boxes, sentence.logits = boxes, torch.tensor([2., 3., 1.])
    phrases = decoding.decode_phrases(
        words_raw, make_sample((True,)), max_per_phrase=2, score_thr=0., with_masks=False)
    several = decoding.decode_generalized(
        sentence, make_sample((True,)), score_thr=0.5, with_masks=False)
    expected = decoding.rescale_boxes(boxes, META)[[1, 2]]
    assert torch.equal(phrases.bboxes, expected) and torch.equal(several.bboxes, expected)


def undecided_sample(flags=(True, True, True, True)):
    sample = make_sample(flags, use_stuff_queries=True)
    sample.instruction.undecided = np.ones(len(flags), dtype=bool)
    return sample


@pytest.mark.parametrize('separate', [False, True])
def test_an_undecided_word_is_what_its_best_query_is(separate):
    raw = make_raw(0, queries=4, phrases=2, dynamic=2, separate_stuff=separate)
    raw.logits = torch.tensor([[6., 0., 0.], [0., 2., 0.], [5., 4., 0.], [0., 8., 0.]])
    raw.mask_logits = torch.full((4, 16, 16), -9.)
    for query, rows in enumerate((slice(0, 4), slice(4, 8), slice(8, 9), slice(9, 16))):
        raw.mask_logits[query, rows] = 9.
    sample = undecided_sample((True, True))
    assert decoding.thing_flags(raw, sample).tolist() == [True, False]
    found = decoding.decode_panoptic(raw, sample, score_thr=0.1, mask_thr=0.5, overlap_thr=0.5)
    assert {(s['label'], s['isthing']) for s in found['segments_info']} == {(0, True), (1, False)}
    assert decoding.decode_semantic(raw, sample)[[0, -1], 0].tolist() == [0, 1]


def test_stuff_is_one_instance_where_it_is_asked_for():
    raw = make_raw(0, queries=4, phrases=2, dynamic=2, separate_stuff=True)
    raw.logits = torch.tensor([[6., 0., 0.], [5., 0., 0.], [0., 4., 0.], [0., 8., 0.]])
    arguments = dict(max_per_image=10, score_thr=0.1, with_masks=False)
    sample = make_sample((True, False), use_stuff_queries=True)
    found = decoding.decode_instances(
        raw, sample, things_only=False, stuff_once=True, **arguments)
    assert sorted(found.labels.tolist()) == [0, 0, 1]
    stuff = found[found.labels == 1]
    assert torch.equal(stuff.bboxes, decoding.rescale_boxes(raw.boxes[3:], META))
    things = decoding.decode_instances(raw, sample, things_only=True, **arguments)
    assert things.labels.tolist() == [0, 0]


def test_the_least_score_holds_for_every_task():
    raw, sentence = make_raw(7, least_score=0.4), make_raw(4, sentence=True, least_score=0.7)
    sample = make_sample()
    instances = decoding.decode_instances(
        raw, sample, max_per_image=40, score_thr=0., things_only=False, with_masks=True)
    phrases = decoding.decode_phrases(
        raw, sample, max_per_phrase=9, score_thr=0., with_masks=False)
    several = decoding.decode_generalized(sentence, sample, score_thr=0.1, with_masks=False)
    assert len(instances) and (instances.scores > 0.4).all()
    assert len(phrases) and (phrases.scores > 0.4).all()
    assert len(several) and (several.scores > 0.7).all()


def test_wrong_logits_are_named():
    with pytest.raises(ValueError, match=r'4 phrases needs logits of shape \(Q, 5\)'):
        decoding.decode_semantic(make_raw(0, phrases=6), make_sample())
    with pytest.raises(ValueError, match=r'shape \(Q,\)'):
        decoding.decode_referring(make_raw(0), make_sample(), with_masks=False)
