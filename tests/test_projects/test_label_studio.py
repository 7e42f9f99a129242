# Copyright (c) mvp_mm authors. All rights reserved.
"""The backend for Label Studio gives an answer's objects as regions of the labelling interface."""
from __future__ import annotations

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest

from mvp_mm.apis import MVP
from tests.helpers import ROOT
from tests.test_apis.conftest import checkpoint, image  # noqa: F401  fixtures

TestClient = pytest.importorskip('fastapi.testclient').TestClient
CONFIG = '''
<View>
  <Image name="photo" value="$url"/>
  <RectangleLabels name="box" toName="photo">
    <Label value="Round" predicted_values="circle, star"/><Label value="square"/>
  </RectangleLabels>
  <{kind} name="area" toName="photo"><Label value="circle"/></{kind}>
  <TextArea name="prompt" toName="photo"/>
</View>'''


@pytest.fixture(scope='module')
def backend():
    path = ROOT / 'projects/label_studio/backend.py'
    spec = importlib.util.spec_from_file_location('label_studio_backend', path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module    # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope='module')
def model(checkpoint):  # noqa: F811
    return MVP(checkpoint, 'cpu')


@pytest.fixture
def brush(monkeypatch):
    """The package's encoder of masks and its decoder, or where it is absent a fake of both."""
    try:
        from label_studio_sdk.converter import brush
        return brush.decode_rle
    except ImportError:
        fake = ModuleType('label_studio_sdk.converter')
        fake.brush = SimpleNamespace(mask2rle=lambda mask: mask.repeat(4).tolist())
        monkeypatch.setitem(sys.modules, 'label_studio_sdk', ModuleType('label_studio_sdk'))
        monkeypatch.setitem(sys.modules, 'label_studio_sdk.converter', fake)
        return np.array


def ask(client, kind='PolygonLabels', tasks=({'id': 7, 'data': {'url': '/data/a.png'}},), **more):
    body = dict(tasks=list(tasks), label_config=CONFIG.format(kind=kind), **more)
    return client.post('/predict', json=body)


@pytest.fixture
def client(backend, model, image, tmp_path):  # noqa: F811
    cv2.imwrite(str(tmp_path / 'a.png'), image)

    def load(address, task, folder):
        return str(tmp_path / address.rpartition('/')[2])

    return TestClient(backend.build_app(model, load, 'tiny', threshold=0., thinking=False))


def test_boxes_are_percentages_of_the_image_under_the_label_of_their_word(client, model, image):  # noqa: F811
    expected = model(image, words=['circle', 'star', 'square'], threshold=0., thinking=False,
                     channels='bgr')
    result = ask(client).json()['results'][0]
    found = [region for region in result['result'] if region['type'] == 'rectanglelabels']
    assert len(found) == len(expected) > 0 and result['model_version'] == 'tiny'
    names = dict(circle='Round', star='Round', square='square')
    for region, box, word, score in zip(found, expected.boxes, expected.labels, expected.scores,
                                        strict=True):
        value = region['value']
        assert value['rectanglelabels'] == [names[word]]
        assert (region['from_name'], region['to_name']) == ('box', 'photo')
        assert (region['original_width'], region['original_height']) == (90, 60)
        left, top = value['x'] * 0.9, value['y'] * 0.6
        np.testing.assert_allclose(
            [left, top, left + value['width'] * 0.9, top + value['height'] * 0.6], box, atol=1e-2)
        assert region['score'] == pytest.approx(float(score), abs=1e-5)
    assert len({region['id'] for region in result['result']}) == len(result['result'])


def test_polygons_enclose_the_masks(client, model, image):  # noqa: F811
    answer = model(image, words=['circle', 'star', 'square'], threshold=0., thinking=False,
                   channels='bgr')
    circles = [k for k, word in enumerate(answer.labels) if word == 'circle']
    found = [region['value'] for region in ask(client).json()['results'][0]['result']
             if region['type'] == 'polygonlabels']
    drawn = np.zeros((60, 90), np.uint8)
    for value in found:
        assert value['polygonlabels'] == ['circle']
        points = np.array(value['points']) * [0.9, 0.6]
        cv2.fillPoly(drawn, [points.round().astype(np.int32)], 1)
    union = np.any([answer.mask(k) for k in circles], axis=0)
    assert union.any() and (drawn.astype(bool) & union).sum() / union.sum() > 0.9


def test_brushes_are_the_masks_themselves(client, model, image, brush):  # noqa: F811
    answer = model(image, words=['circle', 'star', 'square'], threshold=0., thinking=False,
                   channels='bgr')
    masks = [answer.mask(k) for k, word in enumerate(answer.labels)
             if word == 'circle' and answer.mask(k).any()]
    found = [region['value'] for region in ask(client, 'BrushLabels').json()['results'][0]['result']
             if region['type'] == 'brushlabels']
    assert len(found) == len(masks) > 0
    for value, mask in zip(found, masks, strict=True):
        assert value['format'] == 'rle'
        decoded = np.asarray(brush(value['rle'])).reshape(60, 90, 4)[..., 3] > 0
        assert np.array_equal(decoded, mask)


def test_the_text_of_the_prompt_is_asked_as_a_sentence(client, model, image):  # noqa: F811
    expected = model(image, text='the circle on the left', threshold=0., thinking=False,
                     channels='bgr')
    prompt = dict(from_name='prompt', type='textarea', value=dict(text=['the circle on the left']))
    regions = ask(client, params=dict(context=dict(result=[prompt]))).json()['results'][0]['result']
    boxes = [region for region in regions if region['type'] == 'rectanglelabels']
    assert len(boxes) == len(expected) > 0
    assert {tuple(region['value']['rectanglelabels']) for region in boxes} == {('Round',)}


def test_every_task_has_its_result_in_order(client):
    tasks = [{'id': k, 'data': {'url': '/data/a.png'}} for k in range(3)]
    results = ask(client, tasks=tasks).json()['results']
    assert len(results) == 3 and all(result['result'] for result in results)


@pytest.mark.parametrize('request_body, message', [
    (dict(tasks=[], label_config='<View>'), 'not valid XML'),
    (dict(tasks=[]), 'not valid XML'),
    (dict(tasks=[], label_config='<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'), 'not valid XML'),
    (dict(tasks=[], label_config='<View><Image name="a" value="$a"/></View>'),
     'no RectangleLabels'),
    (dict(tasks=[dict(id=9, data=dict(url='/data/none.png'))],
          label_config=CONFIG.format(kind='PolygonLabels')), 'task 9: FileNotFoundError'),
    (dict(tasks=[dict(id=9, data={})], label_config=CONFIG.format(kind='PolygonLabels')),
     "task 9: KeyError: 'url'")])
def test_what_is_wrong_is_one_line_with_the_task(client, request_body, message):
    response = client.post('/predict', json=request_body)
    assert response.status_code == 422 and message in response.json()['detail']


def test_label_studio_s_other_routes_answer(client):
    assert client.get('/health').json()['status'] == 'UP'
    assert client.post('/setup', json=dict(project='1.2')).json() == dict(model_version='tiny')
    assert client.post('/webhook', json=dict(action='ANNOTATION_CREATED')).status_code == 200


def test_images_of_other_servers_are_not_fetched(backend, monkeypatch, tmp_path):
    name = 'label_studio_sdk._extensions.label_studio_tools.core.utils.io'
    asked = []
    fake = ModuleType(name)
    fake.get_local_path = lambda address, **options: asked.append(options) or address
    monkeypatch.setitem(sys.modules, name, fake)
    monkeypatch.setenv('LABEL_STUDIO_URL', 'http://studio:8080')
    with pytest.raises(ValueError, match='is not on LABEL_STUDIO_URL'):
        backend.load_from_label_studio('http://10.0.0.1/secret.png', 3, str(tmp_path))
    for address in ('/data/upload/1/a.png', 'http://studio:8080/data/a.png', 's3://bucket/a.png'):
        assert backend.load_from_label_studio(address, 3, str(tmp_path)) == address
    assert asked == [dict(cache_dir=str(tmp_path), task_id=3)] * 3
