# Copyright (c) mvp_mm authors. All rights reserved.
"""Saved predictions score as they did, and broken ones are named."""
from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from mvp_mm.evaluation import (
    CocoAPMetric,
    GeneralizedReferringMetric,
    GroundingRecallMetric,
    PanopticQualityMetric,
    PredictionReader,
    PredictionWriter,
    ReferringMetric,
    SemanticIoUMetric,
)
from mvp_mm.utils.masks import unpack_runs

from .samples import CLASSES, THINGS, box_masks, encode, make_instances, make_sample
from .test_panoptic_and_semantic import disturb, random_map

SIZE = (24, 32)
META = dict(classes=CLASSES, thing_flags=THINGS)
IDS = (3, 7, 8, 20)
ASKED = dict(panoptic=dict(task='panoptic'), sentences=dict(task='refer', kind='sentence'),
             grounding=dict(task='ground', phrases=('a red cat', 'it'), is_thing=(True, True)))
METRICS = dict(
    panoptic=(PanopticQualityMetric, SemanticIoUMetric, CocoAPMetric),
    sentences=(ReferringMetric, GeneralizedReferringMetric), grounding=(GroundingRecallMetric,))


def random_instances(rng, count, labels, masks=True):
    corner = rng.random((count, 2)) * 16
    boxes = np.concatenate((corner, corner + 2 + rng.random((count, 2)) * 12), axis=1)
    return make_instances(boxes, rng.random(count), rng.integers(0, labels, count),
                          box_masks(boxes, SIZE) if masks else None)


def truth_of(instances):
    boxes = instances.bboxes.numpy()
    return dict(bboxes=boxes + 0.5, labels=instances.labels.numpy(),
                crowd=np.zeros(len(boxes), bool), masks=encode(box_masks(boxes + 1, SIZE)))


def make_question(kind, number):
    """A sample with its ground truth and without an answer."""
    rng = np.random.default_rng(number)
    asked = dict(ASKED[kind])
    task = asked.pop('task')
    gt_map, segments = random_map(rng, 6)
    gt = dict(truth_of(random_instances(rng, 1 if kind == 'sentences' else 5,
                                        1 if kind == 'sentences' else 2)),
              panoptic=gt_map, segments_info=segments)
    ids = dict(ref_id=number // 3, sent_id=number) if kind == 'sentences' else dict(sent_id='')
    image = number // 2 if kind == 'sentences' else number
    sample = make_sample(SIZE, gt, img_id=image, img_path=f'{image}.jpg', **ids, **asked)
    sample.instruction.task = task
    return sample


def answer(kind, sample, number):
    rng = np.random.default_rng(1000 + number)
    sample.pred_caption = f'caption {number}'
    if kind == 'panoptic':
        gt = sample.gt_eval
        panoptic, segments = disturb(rng, gt['panoptic'], gt['segments_info'])
        sample.pred_panoptic_seg = dict(panoptic=torch.from_numpy(panoptic), segments_info=[
            dict(s, score=float(np.float32(rng.random()))) for s in segments])
        sample.pred_sem_seg = torch.from_numpy(rng.integers(0, 4, SIZE))
        sample.pred_instances = random_instances(rng, number % 4, 2)
    elif kind == 'grounding':
        sample.pred_instances = random_instances(rng, 6, 2, masks=False)
    else:
        sample.pred_instances = random_instances(rng, number % 3, 1)
        sample.pred_candidates = random_instances(rng, 4, 1)
        sample.pred_sentence_presence = torch.tensor(number / 12)
        sample.set_field({'n': number}, 'pred_extra')


def annotations(tmp_path):
    """An annotation file whose category ids are not positions."""
    path = tmp_path / 'ann.json'
    path.write_text(json.dumps(dict(categories=[
        dict(id=number, name=name) for number, name in zip(IDS, CLASSES, strict=True)])))
    return str(path)


def evaluate(kind, samples):
    metrics = {}
    for metric in [metric() for metric in METRICS[kind]]:
        metric.process(None, [sample.to_dict() for sample in samples])
        metrics.update(metric.evaluate(len(samples)))
    return metrics


def save(tmp_path, kind, samples, batch=3):
    writer = PredictionWriter(str(tmp_path / 'out'), annotations(tmp_path))
    writer.dataset_meta = META
    for start in range(0, len(samples), batch):
        writer.process(None, [sample.to_dict() for sample in samples[start:start + batch]])
    assert writer.evaluate(len(samples)) == {}
    return tmp_path / 'out' / ASKED[kind]['task']


def reader(tmp_path):
    return PredictionReader(tmp_path / 'out', CLASSES, THINGS, str(tmp_path / 'ann.json'))


def make(tmp_path, kind, count=8):
    samples = [make_question(kind, number) for number in range(count)]
    for number, sample in enumerate(samples):
        answer(kind, sample, number)
    return samples, save(tmp_path, kind, samples)


@pytest.mark.parametrize('kind', list(ASKED))
def test_the_figures_are_the_same_to_the_last_digit(tmp_path, kind):
    samples, _ = make(tmp_path, kind)
    saved = reader(tmp_path)
    again = [make_question(kind, number) for number in range(len(samples))]
    for sample in again:
        saved.answer(sample)
    saved.check_all_used()
    assert evaluate(kind, again) == evaluate(kind, samples)
    assert [sample.pred_caption for sample in again] == [s.pred_caption for s in samples]
    if kind == 'sentences':
        assert (again[3].pred_extra, again[3].pred_sentence_presence) == ({'n': 3}, 0.25)


def test_instances_are_coco_results(tmp_path):
    samples, folder = make(tmp_path, 'panoptic')
    images = json.loads((folder / 'images.json').read_text())
    assert [category['id'] for category in images['categories']] == list(IDS)
    truth = COCO()
    truth.dataset = dict(images, annotations=[], info={})
    truth.createIndex()
    found = truth.loadRes(str(folder / 'instances.json'))
    assert len(found.anns) == sum(len(sample.pred_instances) for sample in samples)
    first = next(sample for sample in samples if len(sample.pred_instances))
    record = found.imgToAnns[first.img_id][0]
    assert record['category_id'] == IDS[int(first.pred_instances.labels[0])]
    assert np.array_equal(found.annToMask(record), first.pred_instances.masks[0].numpy())


def test_panoptic_maps_are_cocos(tmp_path):
    samples, folder = make(tmp_path, 'panoptic')
    content = json.loads((folder / 'panoptic.json').read_text())
    assert {'images', 'annotations', 'categories'} <= content.keys()
    for sample, record in zip(samples, content['annotations'], strict=True):
        colours = np.array(Image.open(folder / 'panoptic' / record['file_name'])).astype(int)
        ids = colours @ (1, 256, 65536)
        assert np.array_equal(ids, sample.pred_panoptic_seg['panoptic'].numpy())
        assert record['image_id'] == sample.img_id
        assert [s['category_id'] for s in record['segments_info']] == [
            IDS[s['label']] for s in sample.pred_panoptic_seg['segments_info']]


@pytest.mark.parametrize('kind, missing', [
    ('panoptic', 'images.json has no prediction for image 8'),
    ('sentences', 'sentences.json has no prediction for image 4 .*the one on the left'),
])
def test_missing_predictions_are_named(tmp_path, kind, missing):
    make(tmp_path, kind)
    saved = reader(tmp_path)
    with pytest.raises(KeyError, match=missing):
        for number in range(9):
            saved.answer(make_question(kind, number))


@pytest.mark.parametrize('kind, unused', [
    ('panoptic', r'images.json: the data set does not ask for \(7,\)'),
    ('sentences', r'sentences.json: the data set does not ask for \(3, 2, 7, '),
])
def test_predictions_that_nobody_asks_for_are_named(tmp_path, kind, unused):
    make(tmp_path, kind)
    saved = reader(tmp_path)
    for number in range(7):
        saved.answer(make_question(kind, number))
    with pytest.raises(ValueError, match=unused):
        saved.check_all_used()


def change(folder, name, edit):
    content = json.loads((folder / name).read_text())
    edit(content)
    (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize('name, edit, message', [
    ('instances.json', lambda c: c[0].update(category_id=99), 'image 1 .*unknown category 99'),
    ('instances.json', lambda c: c[0].pop('score'), 'score'),
    ('images.json', lambda c: c['images'].append(c['images'][0]), "{'id': 0} is there twice"),
    ('panoptic.json', lambda c: c['annotations'][1]['segments_info'][0].update(category_id=5),
     'image 1 .*unknown category 5'),
    ('captions.json', lambda c: c[0].pop('part'), 'part'),
])
def test_broken_files_are_named(tmp_path, name, edit, message):
    _, folder = make(tmp_path, 'panoptic')
    change(folder, name, edit)
    saved = reader(tmp_path)
    with pytest.raises(ValueError, match=message):
        for number in range(8):
            saved.answer(make_question('panoptic', number))


@pytest.mark.parametrize('name, edit, message', [
    ('instances.json', lambda c: c[0].update(score=float('nan')),
     r'instances.json: prediction number 0 \(image 1\) has score nan, expected a number from'),
    ('instances.json', lambda c: c[0].update(bbox=[0, 0, 1e300, 5]),
     r'prediction number 0 \(image 1\) has bbox .*within 1048576'),
    ('instances.json', lambda c: c[0].update(score=7), 'has score 7, expected a number'),
    ('instances.json', lambda c: c[0].update(bbox=[5, 5, -3, -3]), 'of no negative size'),
    ('instances.json', lambda c: c[0]['segmentation'].update(
        counts=c[0]['segmentation']['counts'][:3]), r'prediction number 0 \(image 1\): '),
    ('instances.json', lambda c: c[0].update(segmentation=[1, 1, 5, 1, 5, 5]),
     r'prediction number 0 \(image 1\): '),
    ('instances.json', lambda c: c[0].update(segmentation=dict(
        encode(np.ones((1, 9, 9)))[0], counts='X1')),
     r'instances.json: prediction number 0 \(image 1\): RLE of size \[9, 9\] on an image'),
])
def test_what_cannot_be_scored_is_named(tmp_path, name, edit, message):
    _, folder = make(tmp_path, 'panoptic')
    change(folder, name, edit)
    saved, samples = reader(tmp_path), [make_question('panoptic', number) for number in range(8)]
    with pytest.raises(ValueError, match=message):
        for sample in samples:
            saved.answer(sample)
        evaluate('panoptic', samples)


def test_masks_may_be_uncompressed_runs(tmp_path):
    samples, folder = make(tmp_path, 'panoptic')

    def unpack(content):
        for record in content:
            code = record['segmentation']
            code['counts'] = unpack_runs(code['counts']).tolist()

    change(folder, 'instances.json', unpack)
    saved, again = reader(tmp_path), [make_question('panoptic', number) for number in range(8)]
    for sample in again:
        saved.answer(sample)
    assert evaluate('panoptic', again) == evaluate('panoptic', samples)


@pytest.mark.parametrize('data', [b'', b'[{"image_id": 1,', b'{"annotations": []}'])
def test_a_file_that_is_no_list_of_records_is_named(tmp_path, data):
    _, folder = make(tmp_path, 'panoptic')
    (folder / 'instances.json').write_bytes(data)
    with pytest.raises(ValueError, match=r'instances.json(: top level| is not valid JSON)'):
        reader(tmp_path).answer(make_question('panoptic', 0))


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path):
    samples, folder = make(tmp_path, 'panoptic')
    path = folder / 'instances.json'
    path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
    saved, again = reader(tmp_path), [make_question('panoptic', number) for number in range(8)]
    for sample in again:
        saved.answer(sample)
    assert evaluate('panoptic', again) == evaluate('panoptic', samples)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='holds no predictions'):
        PredictionReader(tmp_path)


def test_nothing_predicted_is_an_error(tmp_path):
    with pytest.raises(ValueError, match='nothing was predicted'):
        PredictionWriter(str(tmp_path / 'out')).evaluate(0)


def test_a_sample_predicted_twice_is_named(tmp_path):
    samples = [make_question('sentences', 0) for _ in range(2)]
    for sample in samples:
        answer('sentences', sample, 0)
    with pytest.raises(ValueError, match='image 0 .*predicted twice'):
        save(tmp_path, 'sentences', samples)


def test_values_that_are_not_finite_are_not_saved(tmp_path):
    sample = make_question('panoptic', 5)
    answer('panoptic', sample, 5)
    sample.pred_instances.scores[0] = float('nan')
    with pytest.raises(ValueError, match='image 5 .*score is NaN'):
        save(tmp_path, 'panoptic', [sample])


def test_other_predictions_must_be_plain(tmp_path):
    sample = make_question('panoptic', 5)
    sample.set_field(object(), 'pred_extra')
    with pytest.raises(ValueError, match='image 5 .*cannot be saved in other.json'):
        save(tmp_path, 'panoptic', [sample])
