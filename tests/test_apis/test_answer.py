# Copyright (c) mvp_mm authors. All rights reserved.
"""Answers draw, save and convert themselves; no file is overwritten, no mask is altered."""
from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mvp_mm.apis import MVP, to_coco

WORDS = dict(words=['circle', 'grass'], thinking=False)
QUESTIONS = dict(
    instance=dict(WORDS, task='instance', threshold=0.), panoptic=dict(WORDS, task='panoptic'),
    detection=dict(WORDS, task='detection', threshold=0.), semantic=dict(WORDS, task='semantic'),
    referring=dict(text='the circle', thinking=False), caption=dict(task='caption'))


@pytest.fixture(scope='module')
def model(checkpoint):
    return MVP(checkpoint, 'cpu')


@pytest.fixture(scope='module')
def answers(model, tmp_path_factory):
    path = tmp_path_factory.mktemp('images') / 'x.png'
    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    picture = model.open(path)
    return {name: picture.ask(**question) for name, question in QUESTIONS.items()}


@pytest.mark.parametrize('name', QUESTIONS)
def test_the_parts_of_an_answer_agree(answers, name):
    answer = answers[name]
    n = len(answer)
    assert answer.image_size == (60, 90) and 'x.png' in repr(answer)
    assert answer.found or name == 'referring'
    assert answer.boxes.shape == (n, 4) and answer.boxes.dtype == np.float32
    assert len(answer.labels) == len(answer.scores) == len(answer.class_ids) == n
    assert set(answer.seconds) == {'encode', 'answer'}
    assert (answer.caption is None) == (name != 'caption')
    if name in ('detection', 'caption'):
        assert answer.masks is None and answer.segments is None
    else:
        assert n and answer.masks.shape == (n, 60, 90) and answer.masks.dtype == bool
        assert np.array_equal(answer.mask(0), answer.masks[0])


@pytest.mark.parametrize('score, found, told', [
    (0., False, 'not found, the best guess'), (0.49, False, 'not found, the best guess'),
    (0.5, True, '1 found')])
def test_a_best_guess_counts_as_found_by_its_score(answers, score, found, told):
    answer = replace(answers['referring'], scores=np.array([score], np.float32))
    assert answer.found_thr == 0.5    # of the model's generalized referring
    assert answer.found is answer.to_dict()['found'] is found
    assert told in repr(answer) and told in answer._repr_html_()


def test_a_best_guess_counts_as_found_by_the_sentences_presence_where_that_decides(answers):
    guess = answers['referring']
    assert guess.presence >= guess.scores[0] > 0
    for presence, found in ((0.7, False), (0.71, True)):
        answer = replace(guess, found_thr=None, presence_thr=0.7, presence=presence,
                         scores=np.array([0.3], np.float32))
        assert answer.found is found
    assert not replace(answer, boxes=np.zeros((0, 4))).found


@pytest.mark.parametrize('name', ['instance', 'panoptic', 'semantic', 'detection', 'caption'])
def test_every_object_of_a_word_is_found_and_a_description_that_is_written(answers, name):
    assert answers[name].found_thr is None and answers[name].presence is None
    assert answers[name].found
    nothing = replace(answers[name], boxes=np.zeros((0, 4)), caption='')
    assert nothing.found is False


@pytest.mark.parametrize('name', ['panoptic', 'semantic'])
def test_segments_divide_the_image(answers, name):
    answer = answers[name]
    segment_map, info = answer.segments
    assert segment_map.dtype == np.int32
    assert {s['id'] for s in info} == set(np.unique(segment_map)) - {0}
    for k, segment in enumerate(info):
        mask = segment_map == segment['id']
        assert np.array_equal(answer.mask(k), mask)
        rows, columns = np.nonzero(mask)
        assert answer.boxes[k].tolist() == [
            columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert segment['label'] == answer.labels[k]
        assert (segment['score'] is None) == (name == 'semantic')


@pytest.mark.parametrize('name', QUESTIONS)
def test_a_dict_holds_the_answer_as_json(answers, name):
    answer = answers[name]
    content = json.loads(json.dumps(answer.to_dict(), allow_nan=False))
    assert content['task'] == answer.task and content['size'] == [60, 90]
    assert [item['label'] for item in content['objects']] == answer.labels
    for k, item in enumerate(content['objects']):
        np.testing.assert_allclose(item['bbox'], answer.boxes[k], atol=0.01)
        if answer.masks is not None:
            mask = coco_mask.decode(item['segmentation']).astype(bool)
            assert np.array_equal(mask, answer.mask(k))


def test_several_answers_are_one_coco_file(answers, tmp_path):
    content = to_coco([answers['instance'], answers['panoptic'], answers['referring']])
    path = tmp_path / 'coco.json'
    path.write_text(json.dumps(content))
    coco = COCO(str(path))
    assert len(coco.getImgIds()) == 1 and len(coco.getAnnIds()) == sum(
        len(answers[name]) for name in ('instance', 'panoptic', 'referring'))
    assert {c['name'] for c in coco.loadCats(coco.getCatIds())} <= {
        'circle', 'grass', 'the circle'}
    first = coco.loadAnns(1)[0]
    x, y, width, height = first['bbox']
    np.testing.assert_allclose([x, y, x + width, y + height], answers['instance'].boxes[0],
                               atol=0.02)
    assert answers['instance'].to_coco()['annotations'] == content['annotations'][:len(
        answers['instance'])]


@pytest.mark.parametrize('name', ['instance', 'detection', 'semantic', 'panoptic'])
def test_supervision_gets_the_same_objects(answers, name):
    supervision = pytest.importorskip('supervision')
    answer = answers[name]
    found = answer.to_supervision()
    assert isinstance(found, supervision.Detections) and len(found) == len(answer)
    assert np.array_equal(found.xyxy, answer.boxes)
    assert found.data['class_name'].tolist() == answer.labels
    assert (found.confidence is None) == (name == 'semantic')
    assert (found.mask is None) == (name == 'detection')


@pytest.mark.parametrize('name', QUESTIONS)
def test_an_answer_shows_itself_in_a_notebook(answers, name):
    answer = answers[name]
    assert Image.open(io.BytesIO(answer._repr_png_())).size == answer.plot().size
    page = answer._repr_html_()
    assert page.count('<tr>') == len(answer) + 1 and 'data:image/png;base64,' in page


def test_labels_are_escaped_in_a_notebook(model):
    image = Image.new('RGB', (40, 30))
    page = model(image, text='<script>alert(1)</script>', thinking=False)._repr_html_()
    assert '<script>' not in page and '&lt;script&gt;' in page


def test_no_file_is_overwritten(answers, tmp_path):
    answer = answers['instance']
    first, second = answer.save(tmp_path / 'out'), answer.save(tmp_path / 'out')
    assert [path.name for path in first + second] == [
        'x_instance.png', 'x_instance.json', 'x_instance_2.png', 'x_instance_2.json']
    assert json.loads(first[1].read_text()) == json.loads(json.dumps(answer.to_dict()))
    for name in ('a.png', 'a.json', 'a.jpg'):
        assert answer.save(tmp_path / name) == [tmp_path / name]
        with pytest.raises(FileExistsError, match='exists'):
            answer.save(tmp_path / name)
        answer.save(tmp_path / name, overwrite=True)


def test_a_picture_of_another_file_is_not_drawn(model, tmp_path):
    Image.new('RGB', (40, 30)).save(tmp_path / 'x.png')
    answer = model(tmp_path / 'x.png', **QUESTIONS['instance'])
    Image.new('RGB', (41, 30)).save(tmp_path / 'x.png')
    with pytest.raises(ValueError, match='another size'):
        answer.plot()


def test_full_size_masks_are_not_held(model, monkeypatch):
    """Bool masks of n queries are never made at once."""
    made = []
    empty = torch.empty

    def watched(*shape, **options):
        if options.get('dtype') is torch.bool:
            made.append(shape[0])
        return empty(*shape, **options)

    monkeypatch.setattr(torch, 'empty', watched)
    answer = model(Image.new('RGB', (90, 60)), **QUESTIONS['instance'])
    assert len(answer) and all(0 in shape for shape in made) and made
    assert isinstance(answer.compact_masks.rle(0)['counts'], str)
