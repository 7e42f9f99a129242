# Copyright (c) mvp_mm authors. All rights reserved.
"""PQ against panopticapi's rules written as loops, and mIoU against a dense confusion matrix."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from mvp_mm.evaluation import PanopticQualityMetric, SemanticIoUMetric
from mvp_mm.evaluation.panoptic_quality import match_segments

from .samples import CLASSES, THINGS, make_sample, score

SIZE = (24, 32)


def random_map(rng, count, crowds=False):
    """A map of random rectangles over void, with its segments."""
    segment_map = np.zeros(SIZE, dtype=np.int32)
    ids = rng.choice(np.arange(1, 100000), count, replace=False)
    for segment_id in ids:
        y, x = rng.integers(0, 18), rng.integers(0, 24)
        segment_map[y:y + rng.integers(3, 14), x:x + rng.integers(3, 16)] = segment_id
    segments = []
    for segment_id in ids:
        if (segment_map == segment_id).any():
            label = int(rng.integers(0, 4))
            crowd = int(crowds and THINGS[label] and rng.random() < 0.3)
            segments.append(dict(id=int(segment_id), label=label, iscrowd=crowd))
    return segment_map, segments


def disturb(rng, segment_map, segments):
    """A prediction that resembles the ground truth."""
    shifted = np.roll(segment_map, tuple(rng.integers(-1, 2, 2)), axis=(0, 1))
    shifted[:, :int(rng.integers(0, 6))] = 0
    kept = [s for s in segments if (shifted == s['id']).any()]
    for segment in segments:
        if rng.random() < 0.15:
            shifted[shifted == segment['id']] = 0
            kept = [s for s in kept if s['id'] != segment['id']]
    return shifted, [
        dict(id=s['id'], label=int(rng.integers(0, 4)) if rng.random() < .2 else s['label'],
             isthing=THINGS[s['label']], score=0.9) for s in kept]


def pq_by_loops(gt_map, gt_segments, pred_map, pred_segments):
    """panopticapi's ``pq_compute_single_core``, in its order."""
    counts = np.zeros((4, 4))
    gt = {s['id']: s for s in gt_segments}
    pred = {s['id']: s for s in pred_segments}
    shared = {}
    for y in range(gt_map.shape[0]):
        for x in range(gt_map.shape[1]):
            key = int(gt_map[y, x]), int(pred_map[y, x])
            shared[key] = shared.get(key, 0) + 1
    area = {i: int((gt_map == i).sum()) for i in gt}
    pred_area = {i: int((pred_map == i).sum()) for i in pred}
    gt_done, pred_done = set(), set()
    for (i, j), pixels in shared.items():
        if i not in gt or j not in pred or gt[i]['iscrowd'] or gt[i]['label'] != pred[j]['label']:
            continue
        iou = pixels / (area[i] + pred_area[j] - pixels - shared.get((0, j), 0))
        if iou > 0.5:
            counts[gt[i]['label'], :2] += iou, 1
            gt_done.add(i)
            pred_done.add(j)
    crowd = {}
    for i, segment in gt.items():
        if i in gt_done:
            continue
        if segment['iscrowd']:
            crowd[segment['label']] = i
        else:
            counts[segment['label'], 3] += 1
    for j, segment in pred.items():
        if j in pred_done:
            continue
        spared = shared.get((0, j), 0) + shared.get((crowd.get(segment['label'], -1), j), 0)
        if spared / pred_area[j] <= 0.5:
            counts[segment['label'], 2] += 1
    return counts


def panoptic_sample(truth, prediction, img_id=7):
    sample = make_sample(SIZE, dict(panoptic=truth[0], segments_info=truth[1]), img_id=img_id)
    sample.pred_panoptic_seg = dict(
        panoptic=torch.from_numpy(prediction[0]), segments_info=prediction[1])
    return sample


@pytest.mark.parametrize('seed', range(25))
def test_matching_equals_loops(seed):
    rng = np.random.default_rng(seed)
    truth = random_map(rng, int(rng.integers(0, 9)), crowds=True)
    guess = disturb(rng, *truth) if seed % 3 else random_map(rng, int(rng.integers(0, 9)))
    assert np.allclose(match_segments(*truth, *guess, 4), pq_by_loops(*truth, *guess))


def test_pq_over_images():
    rng = np.random.default_rng(100)
    samples, counts = [], np.zeros((4, 4))
    for _ in range(12):
        truth = random_map(rng, 7, crowds=True)
        guess = disturb(rng, *truth)
        samples.append(panoptic_sample(truth, guess))
        counts += pq_by_loops(*truth, *guess)
    iou, tp, fp, fn = counts.T
    pq, sq = 100 * iou / (tp + fp / 2 + fn / 2), 100 * iou / tp
    found = score(PanopticQualityMetric(), samples)
    assert found['panoptic/PQ'] == pytest.approx(pq.mean())
    assert found['panoptic/SQ'] == pytest.approx(sq.mean())
    assert found['panoptic/PQ_th'] == pytest.approx(pq[:2].mean())
    assert found['panoptic/PQ_st'] == pytest.approx(pq[2:].mean())
    assert set(found) == {f'panoptic/{a}{b}' for a in ('PQ', 'SQ', 'RQ')
                          for b in ('', '_th', '_st')}


def test_perfect_panoptic_and_semantic():
    rng = np.random.default_rng(1)
    samples = []
    for _ in range(4):
        truth = random_map(rng, 8)
        sample = panoptic_sample(truth, truth)
        labels = np.zeros(SIZE, dtype=np.int64)
        for segment in truth[1]:
            labels[truth[0] == segment['id']] = segment['label']
        sample.pred_sem_seg = torch.from_numpy(labels)
        samples.append(sample)
    assert set(score(PanopticQualityMetric(), samples).values()) == {100.}
    assert set(score(SemanticIoUMetric(), samples).values()) == {100.}


def test_semantic_equals_dense_confusion():
    rng = np.random.default_rng(2)
    samples, confusion = [], np.zeros((4, 4))
    for _ in range(6):
        gt_map, segments = random_map(rng, 8)
        segments = [dict(s, label=s['label'] % 3) for s in segments]
        pred = rng.integers(0, 4, SIZE)
        for segment in segments:
            inside = gt_map == segment['id']
            pred[inside & (rng.random(SIZE) < 0.6)] = segment['label']
            for k in range(4):
                confusion[segment['label'], k] += (pred[inside] == k).sum()
        sample = make_sample(SIZE, dict(panoptic=gt_map, segments_info=segments))
        sample.pred_sem_seg = torch.from_numpy(pred)
        samples.append(sample)
    assert confusion.sum(1)[3] == 0 < confusion.sum(0)[3]
    hit, gt = confusion.diagonal(), confusion.sum(1)
    iou = 100 * hit / (gt + confusion.sum(0) - hit)
    found = score(SemanticIoUMetric(), samples)
    assert found['semantic/mIoU'] == pytest.approx(iou.mean())
    assert found['semantic/fwIoU'] == pytest.approx((iou * gt).sum() / gt.sum())
    assert found['semantic/mACC'] == pytest.approx(100 * (hit[:3] / gt[:3]).mean())
    assert found['semantic/pACC'] == pytest.approx(100 * hit.sum() / gt.sum())


def test_only_classes_without_any_pixel_are_no_part_of_the_mean():
    truth = np.ones((2, 2), dtype=np.int32), [dict(id=1, label=0, iscrowd=0)]
    for guess, expected in (([0, 0, 0, 0], 100.), ([0, 0, 0, 1], 75. / 2), ([0, 0, 1, 2], 50. / 3)):
        sample = make_sample((2, 2), dict(panoptic=truth[0], segments_info=truth[1]))
        sample.pred_sem_seg = torch.tensor(guess).view(2, 2)
        assert score(SemanticIoUMetric(), [sample])['semantic/mIoU'] == pytest.approx(expected)


def test_classes_are_told_apart_by_phrase():
    rng = np.random.default_rng(3)
    truth = random_map(rng, 6)
    plain = panoptic_sample(truth, disturb(rng, *truth))
    turned = panoptic_sample(*((
        part[0], [dict(s, label=3 - s['label']) for s in part[1]]) for part in (
            truth, (plain.pred_panoptic_seg['panoptic'].numpy(),
                    plain.pred_panoptic_seg['segments_info']))))
    turned.instruction.phrases = list(CLASSES[::-1])
    turned.instruction.is_thing = np.array(THINGS[::-1])
    again = plain.clone()
    again.set_metainfo(dict(img_id=8))
    assert score(PanopticQualityMetric(), [plain, turned]) == pytest.approx(
        score(PanopticQualityMetric(), [plain, again]))


def test_an_unlisted_segment_is_an_error():
    truth = random_map(np.random.default_rng(4), 6)
    sample = panoptic_sample(truth, (truth[0], truth[1][1:]))
    with pytest.raises(ValueError, match='image 7: the map has segment ids'):
        score(PanopticQualityMetric(), [sample])


def test_mismatched_sizes_name_the_sample():
    truth = random_map(np.random.default_rng(4), 6)
    sample = panoptic_sample(truth, (np.zeros((5, 5), dtype=np.int32), []))
    with pytest.raises(ValueError, match='image 7: the predicted map has size'):
        score(PanopticQualityMetric(), [sample])
    sample.pred_sem_seg = torch.zeros(5, 5, dtype=torch.int64)
    with pytest.raises(ValueError, match='image 7: the predicted map has size'):
        score(SemanticIoUMetric(), [sample])


def test_missing_predictions_name_the_sample():
    sample = make_sample(SIZE, dict(panoptic=np.zeros(SIZE, dtype=np.int32), segments_info=[]))
    with pytest.raises(KeyError, match='image 7 has no pred_panoptic_seg'):
        score(PanopticQualityMetric(), [sample])
