# Copyright (c) mvp_mm authors. All rights reserved.
"""LVIS AP against its rules written as loops."""
from __future__ import annotations

import json

import numpy as np
import pytest
from torchvision.ops import box_iou as torch_iou

from mvp_mm.evaluation import LvisAPMetric

from .samples import box_masks, encode, make_instances, make_sample, score

SIZE = (60, 80)
NAMES = ('cat', 'dog', 'red_fox', 'owl', 'elk')
SPACED = ('cat', 'dog', 'red fox', 'owl', 'elk')
FREQUENCY = 'rccff'
THRESHOLDS = np.linspace(0.5, 0.95, 10)


def random_boxes(rng, count):
    corner = rng.integers(0, 40, (count, 2))
    return np.concatenate((corner, corner + rng.integers(6, 20, (count, 2))), axis=1).astype(float)


def make_world(seed, images=8):
    """A federated annotation file and predictions of all classes in all images."""
    rng = np.random.default_rng(seed)
    truth = dict(images=[], annotations=[], categories=[
        dict(id=10 + k, name=name, frequency=FREQUENCY[k]) for k, name in enumerate(NAMES)])
    samples = []
    for image in range(100, 100 + images):
        state = rng.integers(0, 4, len(NAMES))  # 0 unknown, 1 absent, 2 present, 3 partly
        truth['images'].append(dict(
            id=image, height=SIZE[0], width=SIZE[1],
            neg_category_ids=[10 + k for k in np.flatnonzero(state == 1).tolist()],
            not_exhaustive_category_ids=[10 + k for k in np.flatnonzero(state == 3).tolist()]))
        boxes, labels = [], []
        for k in np.flatnonzero(state > 1).tolist():
            for x1, y1, x2, y2 in random_boxes(rng, int(rng.integers(1, 4))).tolist():
                area = (x2 - x1) * (y2 - y1)
                mask = encode(box_masks([(x1, y1, x2, y2)], SIZE))[0]
                truth['annotations'].append(dict(
                    id=len(truth['annotations']) + 1, image_id=image, category_id=10 + k,
                    bbox=[x1, y1, x2 - x1, y2 - y1], area=area,
                    segmentation=dict(mask, counts=mask['counts'].decode())))
                if rng.random() < 0.8:
                    boxes.append((x1, y1, x2 + rng.integers(0, 4), y2 + rng.integers(0, 4)))
                    labels.append(k)
        extra = random_boxes(rng, 8)
        boxes = np.concatenate((np.reshape(boxes, (-1, 4)), extra))
        labels = np.concatenate((labels, rng.integers(0, len(NAMES), 8)))
        sample = make_sample(SIZE, {}, phrases=SPACED, is_thing=(True,) * 5, img_id=image)
        sample.pred_instances = make_instances(
            boxes, rng.random(len(boxes)), labels, box_masks(boxes, SIZE))
        samples.append(sample)
    return truth, samples


def average_precision(truth, samples, k, threshold, limit):
    """One class at one IoU threshold."""
    category = 10 + k
    found = []
    for sample in samples:
        pred = sample.pred_instances
        found += [(float(s), sample.img_id, b.double()[None]) for s, b, c in zip(
            pred.scores, pred.bboxes, pred.labels, strict=True) if c == k]
    found = sorted(found, key=lambda item: -item[0])[:limit]
    boxes, free, images = {}, {}, {image['id']: image for image in truth['images']}
    for a in truth['annotations']:
        if a['category_id'] == category:
            x, y, w, h = a['bbox']
            boxes.setdefault(a['image_id'], []).append([x, y, x + w, y + h])
            free.setdefault(a['image_id'], []).append(True)
    total = sum(map(len, boxes.values()))
    if not total:
        return None
    hits = []
    for _, image, box in found:
        if image in boxes:
            iou = torch_iou(box, box.new_tensor(boxes[image]))[0].numpy()
            iou[~np.array(free[image])] = -1
            best = len(iou) - 1 - int(iou[::-1].argmax())
            if iou[best] >= threshold:
                free[image][best] = False
                hits.append(True)
                continue
        elif category not in images[image]['neg_category_ids']:
            continue
        if category not in images[image]['not_exhaustive_category_ids']:
            hits.append(False)
    true = np.cumsum(hits)
    recall, precision = true / total, true / np.arange(1, len(hits) + 1)
    grid = np.linspace(0, 1, 101)
    return np.mean([precision[recall >= r].max(initial=0.) for r in grid])


def expected_ap(truth, samples, limit=10000):
    table = [[average_precision(truth, samples, k, t, limit) for t in THRESHOLDS]
             for k in range(len(NAMES))]
    kept = [k for k, row in enumerate(table) if row[0] is not None]
    mean = lambda rows: 100 * np.mean(rows)  # noqa: E731
    result = dict(AP=mean([table[k] for k in kept]), AP50=mean([table[k][0] for k in kept]),
                  AP75=mean([table[k][5] for k in kept]))
    for kind in 'rcf':
        rows = [table[k] for k in kept if FREQUENCY[k] == kind]
        if rows:
            result[f'AP{kind}'] = mean(rows)
    return result


def lvis(tmp_path, truth, samples, **kwargs):
    path = tmp_path / 'lvis.json'
    path.write_text(json.dumps(truth))
    return score(LvisAPMetric(str(path), **kwargs), samples)


@pytest.mark.parametrize('seed', range(3))
def test_ap_equals_loops(tmp_path, seed):
    truth, samples = make_world(seed)
    found = lvis(tmp_path, truth, samples)
    expected = expected_ap(truth, samples)
    assert found == pytest.approx(
        {f'lvis/{kind}_{name}': value for kind in ('bbox', 'segm')
         for name, value in expected.items()}, rel=0, abs=1e-9)
    assert 0 < found['lvis/bbox_AP'] < 100


def test_the_best_of_a_class_over_all_images_count(tmp_path):
    truth, samples = make_world(5)
    found = lvis(tmp_path, truth, samples, iou_types=['bbox'], max_per_class=6)
    expected = expected_ap(truth, samples, limit=6)
    assert expected['AP'] != pytest.approx(expected_ap(truth, samples)['AP'])
    assert found['lvis/bbox_AP'] == pytest.approx(expected['AP'], rel=0, abs=1e-9)


def test_no_limit_of_an_image(tmp_path):
    truth, samples = make_world(6, images=1)
    truth['images'][0].update(neg_category_ids=[], not_exhaustive_category_ids=[])
    truth['annotations'] = truth['annotations'][:1]
    x, y, w, h = truth['annotations'][0]['bbox']
    label = truth['annotations'][0]['category_id'] - 10
    boxes = np.array([[70., 50., 75., 55.]] * 400 + [[x, y, x + w, y + h]])
    samples[0].pred_instances = make_instances(
        boxes, [0.9] * 400 + [0.1], np.full(401, label), box_masks(boxes, SIZE))
    found = lvis(tmp_path, truth, samples, iou_types=['bbox'])
    assert found['lvis/bbox_AP'] == pytest.approx(100 / 401)


def test_lists_in_pieces_score_as_one(tmp_path):
    truth, samples = make_world(7)
    pieces = []
    for sample in samples:
        for labels in ((0, 1), (2, 3, 4)):
            part = make_sample(SIZE, {}, phrases=[SPACED[k] for k in labels],
                               is_thing=(True,) * len(labels), img_id=sample.img_id)
            pred = sample.pred_instances
            mine = pred[(pred.labels >= labels[0]) & (pred.labels <= labels[-1])]
            mine.labels = mine.labels - labels[0]
            part.pred_instances = mine
            pieces.append(part)
    assert lvis(tmp_path, truth, pieces) == pytest.approx(lvis(tmp_path, truth, samples))


def test_images_that_differ_from_the_file_are_named(tmp_path):
    truth, samples = make_world(8)
    with pytest.raises(ValueError, match='image 100 was not predicted, it is in .*lvis.json'):
        lvis(tmp_path, truth, samples[1:])
    samples[0].set_metainfo(dict(img_id=7))
    with pytest.raises(ValueError, match='image 7 is not in .*lvis.json'):
        lvis(tmp_path, truth, samples)


def test_the_data_set_tells_its_file(tmp_path):
    truth, samples = make_world(3)
    expected = lvis(tmp_path, truth, samples)
    metric = LvisAPMetric()
    metric.dataset_meta = dict(ann_file=str(tmp_path / 'lvis.json'))
    assert score(metric, samples) == expected


@pytest.mark.parametrize('meta, error, message', [
    (None, ValueError, 'give the metric an ann_file'),
    (dict(classes=SPACED), ValueError, 'give the metric an ann_file'),
    (dict(ann_file='nowhere/lvis.json'), FileNotFoundError, 'nowhere/lvis.json does not exist')])
def test_no_file_is_an_error_before_the_first_image(meta, error, message):
    with pytest.raises(error, match=message):
        LvisAPMetric().dataset_meta = meta


def test_unknown_names_are_named(tmp_path):
    truth, samples = make_world(8)
    truth['categories'][0]['name'] = 'cow'
    with pytest.raises(ValueError, match='image 1.* prediction of "cat", which .*lvis.json'):
        lvis(tmp_path, truth, samples)
