# Copyright (c) mvp_mm authors. All rights reserved.
"""AP against pycocotools fed from files, and recall of grounding against loops."""
from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import box_iou

from mvp_mm.evaluation import CocoAPMetric, GroundingRecallMetric
from mvp_mm.evaluation.coco_eval import BACKENDS

from .samples import (
    CLASSES,
    box_masks,
    encode,
    make_instances,
    make_sample,
    score,
)

SIZE = (180, 200)


def random_boxes(rng, count):
    """Boxes of all of COCO's sizes."""
    corner = rng.integers(0, 40, (count, 2))
    sides = rng.integers(8, 20, (count, 2)) * rng.choice([1, 3, 7], (count, 1))
    return np.concatenate((corner, corner + sides), axis=1).astype(float)


def random_sample(rng, img_id, perfect=False):
    boxes = random_boxes(rng, int(rng.integers(0, 6)) if img_id else 3)
    labels = rng.integers(0, 4, len(boxes))
    crowd = (rng.random(len(boxes)) < 0.2) & (not perfect)
    sample = make_sample(SIZE, dict(
        bboxes=boxes.astype(np.float32), labels=labels, crowd=crowd,
        masks=encode(box_masks(boxes, SIZE))), img_id=img_id)
    found, found_labels = boxes, labels
    if not perfect:
        moved = boxes + rng.integers(-2, 3, boxes.shape)
        found = np.concatenate((moved.clip(0), random_boxes(rng, 3)))
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        found_labels = np.concatenate((labels, rng.integers(0, 4, 3)))
    sample.pred_instances = make_instances(
        found, rng.random(len(found)), found_labels, box_masks(found, SIZE))
    return sample


def ap_by_files(samples, iou_type, folder):
    """What pycocotools says about things, from an annotation and a result file."""
    annotations, results = [], []
    for image_id, sample in enumerate(samples, start=1):
        gt, pred = sample.gt_eval, sample.pred_instances
        for k in np.flatnonzero(gt['labels'] < 2):
            x1, y1, x2, y2 = map(float, gt['bboxes'][k])
            rle = dict(gt['masks'][k], counts=gt['masks'][k]['counts'].decode())
            annotations.append(dict(
                id=len(annotations) + 1, image_id=image_id, category_id=int(gt['labels'][k]) + 1,
                bbox=[x1, y1, x2 - x1, y2 - y1],
                area=float(coco_mask.area(gt['masks'][k])), segmentation=rle,
                iscrowd=int(gt['crowd'][k])))
        for k in np.flatnonzero(pred.labels.numpy() < 2):
            x1, y1, x2, y2 = map(float, pred.bboxes[k])
            rle = encode(pred.masks[k:k + 1].numpy())[0]
            answer = dict(bbox=[x1, y1, x2 - x1, y2 - y1])
            if iou_type == 'segm':
                answer = dict(segmentation=dict(rle, counts=rle['counts'].decode()))
            results.append(dict(
                answer, image_id=image_id, category_id=int(pred.labels[k]) + 1,
                score=float(pred.scores[k])))
    path = folder / 'gt.json'
    path.write_text(json.dumps(dict(
        images=[dict(id=k + 1, height=SIZE[0], width=SIZE[1]) for k in range(len(samples))],
        annotations=annotations, categories=[dict(id=k + 1, name=CLASSES[k]) for k in (0, 1)])))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        evaluation = COCOeval(truth, truth.loadRes(results), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:6] * 100


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('iou_type', ['bbox', 'segm'])
def test_ap_equals_pycocotools(iou_type, seed, tmp_path):
    rng = np.random.default_rng(seed)
    samples = [random_sample(rng, k) for k in range(12)]
    found = score(CocoAPMetric(), samples)
    expected = ap_by_files(samples, iou_type, tmp_path)
    names = [f'coco/{iou_type}_{name}' for name in ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl')]
    # A size without objects is -1 there and left out here.
    assert [found.get(name, -100.) for name in names] == pytest.approx(
        expected.tolist(), rel=0, abs=1e-9)
    assert 0 < found[names[0]] < 100


def test_the_backends_agree():
    rng = np.random.default_rng(9)
    samples = [random_sample(rng, k) for k in range(12)]
    slow, fast = (score(CocoAPMetric(backend=backend), samples) for backend in BACKENDS)
    assert fast == pytest.approx(slow, rel=0, abs=1e-9)


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="backend must be one of .* got 'coco'"):
        CocoAPMetric(backend='coco')


def test_only_the_best_hundred_of_a_class_count_in_an_image():
    box = np.array([[5., 5., 30., 30.]])
    sample = make_sample(SIZE, dict(bboxes=box, labels=np.zeros(1, int)))
    wrong = np.tile([[60., 60., 90., 90.]], (100, 1))
    sample.pred_instances = make_instances(
        np.concatenate((wrong, box)), [0.9] * 100 + [0.1], np.zeros(101))
    assert score(CocoAPMetric(iou_types=['bbox']), [sample])['coco/bbox_AP'] == 0.


def test_perfect_ap():
    rng = np.random.default_rng(1)
    found = score(CocoAPMetric(), [random_sample(rng, k, perfect=True) for k in range(8)])
    assert set(found) >= {f'coco/{a}_{b}' for a in ('bbox', 'segm') for b in ('AP', 'APs')}
    assert list(found.values()) == pytest.approx([100.] * len(found))


def test_ap_of_boxes_needs_no_masks():
    rng = np.random.default_rng(1)
    samples = [random_sample(rng, k) for k in range(8)]
    both = score(CocoAPMetric(), samples)
    for sample in samples:
        del sample.pred_instances.masks, sample.gt_eval['masks']
    found = score(CocoAPMetric(iou_types=['bbox']), samples)
    names = ('coco/bbox_AP', 'coco/bbox_AP50', 'coco/bbox_AP75')
    assert [found[name] for name in names] == [both[name] for name in names]
    with pytest.raises(KeyError, match=(
            r'image 0 has no pred_instances\.masks beside .*scores')):
        score(CocoAPMetric(), samples)


def test_nan_scores_name_the_sample():
    sample = random_sample(np.random.default_rng(1), 5)
    sample.pred_instances.scores[0] = float('nan')
    for metric in (CocoAPMetric(), GroundingRecallMetric()):
        with pytest.raises(ValueError, match='image 5: a predicted score is NaN'):
            score(metric, [sample])


def test_wrong_mask_size_names_the_sample():
    sample = random_sample(np.random.default_rng(1), 5)
    del sample.pred_instances.masks
    sample.pred_instances.masks = np.zeros((len(sample.pred_instances), 9, 9), dtype=bool)
    with pytest.raises(ValueError, match='image 5: masks have shape'):
        score(CocoAPMetric(), [sample])


def recall_by_loops(samples, k):
    hits = total = 0
    for sample in samples:
        gt, pred = sample.gt_eval, sample.pred_instances
        for label in range(4):
            boxes = gt['bboxes'][(gt['labels'] == label) & ~gt['crowd']]
            if not len(boxes):
                continue
            total += 1
            own = pred[pred.labels == label]
            own = own[own.scores.argsort(descending=True)[:k]]
            truth = own.bboxes.new_tensor(boxes)
            hits += bool(len(own)) and bool((box_iou(own.bboxes, truth) >= 0.5).any())
    return 100 * hits / total


def test_grounding_recall_equals_loops():
    rng = np.random.default_rng(2)
    samples = [random_sample(rng, k) for k in range(20)]
    found = score(GroundingRecallMetric(topk=(1, 2, 5)), samples)
    assert found == pytest.approx({
        f'grounding/R@{k}': recall_by_loops(samples, k) for k in (1, 2, 5)})
    assert 0 < found['grounding/R@1'] < found['grounding/R@5'] <= 100


def test_perfect_grounding():
    rng = np.random.default_rng(3)
    found = score(GroundingRecallMetric(), [random_sample(rng, k, perfect=True) for k in range(5)])
    assert found == {'grounding/R@1': 100., 'grounding/R@5': 100., 'grounding/R@10': 100.}
