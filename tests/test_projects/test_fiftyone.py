# Copyright (c) mvp_mm authors. All rights reserved.
"""The bridge to FiftyOne, with a small fake of its labels, datasets and COCO functions."""
from __future__ import annotations

import importlib.util
import json
import sys
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest

from mvp_mm.apis import MVP
from tests.helpers import ROOT
from tests.test_apis.conftest import checkpoint, image  # noqa: F401  fixtures

WORDS = ['circle', 'square', 'grass']
QUESTION = dict(words=WORDS[:2], thinking=False, threshold=0., progress=False)


class Label(SimpleNamespace):
    """Any label: its arguments as attributes."""


class Dataset(SimpleNamespace):
    """Samples as dicts, in order."""

    def __init__(self, samples):
        super().__init__(samples=samples, mask_targets={}, saved=0)

    def has_field(self, name):
        return any(name in sample for sample in self.samples)

    def values(self, field):
        return [sample[field] for sample in self.samples]

    def iter_samples(self, autosave):
        assert autosave
        return iter(self.samples)

    def save(self):
        self.saved += 1

    def export(self, **options):
        self.exported = options


fo = SimpleNamespace(
    Detection=Label, Detections=Label, Segmentation=Label,
    types=SimpleNamespace(COCODetectionDataset='coco'))


@pytest.fixture(scope='module')
def bridge():
    spec = importlib.util.spec_from_file_location(
        'fiftyone_bridge', ROOT / 'projects/fiftyone/bridge.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def model(checkpoint):  # noqa: F811
    return MVP(checkpoint, 'cpu')


@pytest.fixture
def dataset(image, tmp_path):  # noqa: F811
    for name in ('a.png', 'b.png'):
        cv2.imwrite(str(tmp_path / name), image if name == 'a.png' else image[:, ::-1])
    return Dataset([dict(filepath=str(tmp_path / name)) for name in ('b.png', 'a.png')])


def test_masks_are_cut_out_by_their_boxes(bridge, model, image):  # noqa: F811
    answer = model(image, channels='bgr', **QUESTION)
    found = bridge.to_detections(answer, fo).detections
    assert len(found) == len(answer) > 0
    checked = 0
    for index, detection in enumerate(found):
        assert detection.label == answer.labels[index]
        assert detection.confidence == pytest.approx(float(answer.scores[index]))
        mask = answer.mask(index)
        if not mask.any():
            continue
        left, top, width, height = np.array(detection.bounding_box) * [90, 60, 90, 60]
        assert detection.mask.shape == (round(height), round(width))
        pasted = np.zeros((60, 90), bool)
        pasted[round(top):round(top + height), round(left):round(left + width)] = detection.mask
        assert np.array_equal(pasted, mask)
        checked += 1
    assert checked


def test_objects_without_masks_keep_their_boxes(bridge, model, image):  # noqa: F811
    answer = model(image, channels='bgr', task='detection', **QUESTION)
    found = bridge.to_detections(answer, fo).detections
    boxes = np.array([d.bounding_box for d in found]) * [90, 60, 90, 60]
    boxes[:, 2:] += boxes[:, :2]
    np.testing.assert_allclose(boxes, answer.boxes, atol=1e-4)
    assert not hasattr(found[0], 'mask')


def test_a_dataset_s_answers_are_written_to_its_own_samples(bridge, model, dataset):
    question = {**QUESTION, 'words': WORDS, 'task': 'semantic', 'stuff': ['grass']}
    bridge.ask(dataset, model, 'mvp', fo, **question)
    targets = dataset.mask_targets['mvp_segments']
    assert dataset.saved == 1 and set(targets.values()) <= {'circle', 'square', 'grass'}
    for sample in dataset.samples:
        answer = model(sample['filepath'], **question)
        assert [d.label for d in sample['mvp'].detections] == answer.labels
        assert sample['mvp'].detections[0].confidence is None    # semantic segments have none
        mask = sample['mvp_segments'].mask
        for segment in answer.segments.info:
            number, = (k for k, name in targets.items() if name == segment['label'])
            assert np.array_equal(mask == number, answer.segments.map == segment['id'])


def test_a_field_that_is_there_is_not_overwritten(bridge, model, dataset):
    dataset.samples[1]['mvp_caption'] = 'mine'
    with pytest.raises(ValueError, match='mvp_caption already'):
        bridge.ask(dataset, model, 'mvp', fo, **QUESTION)


def test_labels_are_exported_as_coco_into_a_new_folder(bridge, dataset, tmp_path):
    with pytest.raises(FileExistsError):
        bridge.export(dataset, 'ground_truth', tmp_path, fo)
    bridge.export(dataset, 'ground_truth', tmp_path / 'own', fo)
    assert dataset.exported == dict(
        export_dir=str(tmp_path / 'own'), dataset_type='coco', label_field='ground_truth')


@pytest.fixture
def loading(monkeypatch):
    """A fake of what makes datasets of COCO files; what it was asked for."""
    calls = []
    made = SimpleNamespace()
    coco = ModuleType('fiftyone.utils.coco')
    coco.add_coco_labels = lambda *args, **options: calls.append((args[1:], options))
    for name in ('fiftyone', 'fiftyone.utils'):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules['fiftyone.utils'].coco = coco
    monkeypatch.setitem(sys.modules, 'fiftyone.utils.coco', coco)
    sys.modules['fiftyone'].utils = sys.modules['fiftyone.utils']
    fake = SimpleNamespace(
        types=fo.types, dataset_exists=lambda name: name == 'old',
        Dataset=SimpleNamespace(from_dir=lambda **options: calls.append(options) or made))
    return fake, calls


def test_labels_and_predictions_become_fields(bridge, loading, tmp_path):
    fake, calls = loading
    labels, results = tmp_path / 'labels.json', tmp_path / 'instances.json'
    labels.write_text(json.dumps(dict(
        images=[dict(id=4, file_name='a.png')], categories=[dict(id=7, name='circle')])))
    found = [dict(image_id=4, category_id=7, bbox=[1, 2, 3, 4], score=0.5)]
    results.write_text(json.dumps(found))
    dataset = bridge.load('new', tmp_path, labels, [results], fake)
    assert dataset.persistent and calls[0]['labels_path'] == str(labels)
    assert calls[1][0] == ('instances', found, {7: 'circle'})
    assert calls[1][1] == dict(label_type='detections', coco_id_field='coco_id')


@pytest.mark.parametrize('name, labels, results, message', [
    ('old', '{}', '[]', 'dataset old already'),
    ('new', '[]', '[]', 'not COCO JSON'), ('new', '{', '[]', 'not valid JSON'),
    ('new', None, '{}', 'not a list of COCO results'),
    ('new', None, '[{"image_id": 5}]', 'image 5 is not in')])
def test_wrong_files_are_refused_before_a_dataset_is_made(bridge, loading, tmp_path, name, labels,
                                                          results, message):
    fake, calls = loading
    right = json.dumps(dict(images=[dict(id=4)], categories=[dict(id=7, name='circle')]))
    (tmp_path / 'labels.json').write_text(right if labels is None else labels)
    (tmp_path / 'instances.json').write_text(results)
    with pytest.raises(ValueError, match=message):
        bridge.load(name, tmp_path, tmp_path / 'labels.json', [tmp_path / 'instances.json'], fake)
    assert calls == []
