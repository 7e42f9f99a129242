# Copyright (c) mvp_mm authors. All rights reserved.
"""POST /predict: both forms of a request, the schema of answers, refusals."""
from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from tests.test_serving.fakes import image_bytes


def ask(client, image=None, **fields):
    """Ask by JSON."""
    image = image_bytes() if image is None else image
    return client.post('/predict', json=dict(image=base64.b64encode(image).decode(), **fields))


def form(client, image=None, **fields):
    """Ask by a form."""
    return client.post('/predict', data=fields,
                       files=dict(image=('a.png', image_bytes() if image is None else image)))


def test_a_form_and_json_get_the_same_answer(client_of):
    client = client_of()
    question = dict(words=['cat', 'dog'], threshold=0.25, thinking=False)
    answers = [kind(client, **question).json() for kind in (ask, form)]
    for answer in answers:
        del answer['id'], answer['seconds']
    assert answers[0] == answers[1]
    assert answers[0]['caption'] == '64x48 None False 0.25'
    assert [one['label'] for one in answers[0]['objects']] == ['dog', 'cat']


def test_a_form_takes_names_between_commas_and_json_takes_names_with_commas(client_of):
    client = client_of()
    answer = form(client, words='cat, dog', stuff='cat , dog').json()
    assert {one['label'] for one in answer['objects']} == {'cat', 'dog'}
    assert form(client, words=['cat, dog', 'cow']).json()['objects'][0]['label'] == 'cow'
    one, = ask(client, words=['cat, dog']).json()['objects']
    assert one['label'] == 'cat, dog'
    assert 'words.1' in form(client, words='cat,').json()['detail']


@pytest.mark.parametrize('with_page', [False, True])
@pytest.mark.parametrize('method', ['GET', 'HEAD', 'PUT', 'DELETE'])
def test_another_method_than_post_is_told_which_to_take(client_of, tmp_path, with_page, method):
    if with_page:
        pytest.importorskip('gradio', reason="the page needs 'mvp_mm[serve]'")
    client = client_of(folder=tmp_path if with_page else None)
    response = client.request(method, '/predict')
    assert response.status_code == 405 and response.headers['allow'] == 'POST'
    assert method == 'HEAD' or 'takes POST requests' in response.json()['detail']


def test_boxes_masks_and_sizes_are_those_of_the_model(client_of):
    answer = ask(client_of(), words=['cat']).json()
    assert answer['image_size'] == [48, 64]
    one, = answer['objects']
    assert one['box'] == [10, 20, 11, 21]
    mask = coco_mask.decode(one['mask'])
    expected = np.zeros((48, 64), dtype=bool)
    expected[12:36, 16:48] = True
    assert np.array_equal(mask.astype(bool), expected)


def test_a_panoptic_answer_has_regions(client_of):
    answer = ask(client_of(), words=['sky', 'cat'], stuff=['sky'], task='panoptic').json()
    cat, sky = answer['objects']
    assert (cat['label'], sky['label'], cat['is_thing'], sky['is_thing']) == (
        'cat', 'sky', True, False)
    assert {cat['segment_id'], sky['segment_id']} == {1, 2}
    assert coco_mask.decode(sky['mask']).sum() == coco_mask.decode(cat['mask']).sum() == 24 * 64


def test_semantic_regions_have_no_score_and_boxes_no_mask(client_of):
    client = client_of()
    assert ask(client, words=['sky'], task='semantic').json()['objects'][0]['score'] is None
    assert ask(client, words=['sky'], task='detection').json()['objects'][0]['mask'] is None


def test_a_photograph_is_turned_upright_first(client_of):
    exif = Image.Exif()
    exif[274] = 6
    file = io.BytesIO()
    Image.new('RGB', (64, 48), (9, 9, 9)).save(file, 'JPEG', exif=exif)
    assert ask(client_of(), file.getvalue(), text='it').json()['image_size'] == [64, 48]


def test_every_answer_has_an_id_and_a_refusal_too(client_of):
    client = client_of()
    for response in (ask(client, words=['cat']), ask(client, words=[])):
        assert response.json()['id'] == response.headers['X-Request-ID']


@pytest.mark.parametrize('fields, said', [
    (dict(), 'give words, text or a task'),
    (dict(words=['cat'], text='the cat'), 'either words or text'),
    (dict(words=[]), 'empty'),
    (dict(words=['']), 'words.0'),
    (dict(words=['x' * 201]), 'words.0'),
    (dict(words=['x'] * 2001), 'words'),
    (dict(text='x' * 2001), 'text'),
    (dict(text='it', threshold=1.5), 'threshold'),
    (dict(text='it', threshold='nan'), 'threshold'),
    (dict(text='it', thinking='perhaps'), 'thinking'),
    (dict(text='it', task='../../etc'), 'task'),
    (dict(text='it', image_url='http://127.0.0.1/'), 'image_url'),
    (dict(text='refuse me'), 'the sentence is refused'),
])
def test_a_wrong_question_is_refused_in_one_line(client_of, model, fields, said):
    response = ask(client_of(), **fields)
    assert response.status_code == 422
    assert said in response.json()['detail'] and '\n' not in response.json()['detail']


@pytest.mark.parametrize('image', ['no base64!', '/etc/passwd', 'http://127.0.0.1/a.png', 7, None])
def test_an_image_is_base64_and_nothing_else(client_of, model, image):
    response = client_of().post('/predict', json=dict(image=image, text='it'))
    assert response.status_code in (415, 422)
    assert not model.batches


@pytest.mark.parametrize('content', [b'', b'no image', b'<svg xmlns="http://www.w3.org/2000/svg"/>',
                                     b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n'])
def test_a_file_that_is_no_picture_is_refused(client_of, model, content):
    assert ask(client_of(), content, text='it').status_code == 415
    assert not model.batches


def test_a_damaged_picture_is_refused(client_of, model):
    whole = image_bytes(kind='JPEG', size=(320, 200))
    response = ask(client_of(), whole[:len(whole) // 2], text='it')
    assert response.status_code == 415 and not model.batches


@pytest.mark.parametrize('files, data', [
    ([], dict(text='it')),
    ([('image', b'x'), ('image', b'x')], dict(text='it')),
    ([('other', b'x')], dict(text='it')),
    ([], dict(text='it', image='a path')),
    ([('image', b'x')], dict(text=['it', 'that'])),
])
def test_a_form_has_one_image_and_known_fields(client_of, model, files, data):
    files = [(name, ('a.png', content)) for name, content in files] or [
        ('unused', ('', b''))]
    response = client_of().post('/predict', files=files, data=data)
    assert response.status_code == 422 and not model.batches


@pytest.mark.parametrize('kind', ['text/plain', 'application/xml', ''])
def test_other_bodies_are_refused(client_of, kind):
    response = client_of().post('/predict', content=b'{}', headers={'content-type': kind})
    assert response.status_code == 415


@pytest.mark.parametrize('body', [b'{', b'[' * 100_000, b'[]', b'null', b'\xff'])
def test_broken_json_is_refused(client_of, body):
    response = client_of().post(
        '/predict', content=body, headers={'content-type': 'application/json'})
    assert response.status_code == 422


def test_a_fault_of_the_model_says_nothing_of_the_inside(client_of):
    response = ask(client_of(), text='break')
    assert response.status_code == 500
    assert 'internal' not in response.text and 'secret' not in response.text


def test_the_schema_is_published_with_both_forms(client_of):
    schema = client_of().get('/openapi.json').json()
    post = schema['paths']['/predict']['post']
    forms = post['requestBody']['content']
    assert forms['application/json']['schema']['required'] == ['image']
    assert 'threshold' in forms['multipart/form-data']['schema']['properties']
    assert {'200', '413', '422', '429', '503'} <= set(post['responses'])
    box = schema['components']['schemas']['FoundObject']['properties']['box']
    assert 'pixels' in box['description']
    assert json.dumps(schema)
