# Copyright (c) mvp_mm authors. All rights reserved.
"""The model class: kinds of images, several questions, an image opened once, results as objects."""
from __future__ import annotations

import json
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mvp_mm.apis import MVP
from mvp_mm.apis.mvp import NMS_IOU
from mvp_mm.datasets.collate import perception_collate
from mvp_mm.registry import DATASETS

QUESTION = dict(words=['circle', 'square'], thinking=False, threshold=0., progress=False)


@pytest.fixture(scope='module')
def model(checkpoint):
    return MVP(checkpoint, 'cpu')


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(1)
    for name in ('b.png', 'a.png', 'c.JPG'):
        cv2.imwrite(str(tmp_path / name), rng.integers(0, 255, (50, 70, 3), dtype=np.uint8))
    (tmp_path / 'notes.txt').write_text('no image')
    return tmp_path


def wait_until(condition):
    """Give another thread the time to make something true."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)


def same(first, second):
    return (first.labels == second.labels and np.array_equal(first.boxes, second.boxes)
            and np.array_equal(first.scores, second.scores))


def test_the_package_is_light_until_the_model_is_used():
    code = ("import sys, mvp_mm; assert 'torch' not in sys.modules; "
            "assert 'MVP' in mvp_mm.__all__ and not hasattr(mvp_mm, 'MPV')")
    subprocess.run([sys.executable, '-c', code], check=True)


def test_every_kind_of_image_gives_the_same_answer(model, folder):
    bgr = cv2.imread(str(folder / 'a.png'))
    rgb = np.ascontiguousarray(bgr[..., ::-1])
    expected = model(folder / 'a.png', **QUESTION)
    assert len(expected) and expected.image.endswith('a.png')
    kinds = [(str(folder / 'a.png'), None), (Image.fromarray(rgb), None), (rgb, 'rgb'),
             (bgr, 'bgr'), (rgb / 255, 'rgb'), (torch.from_numpy(rgb).permute(2, 0, 1), 'rgb')]
    for image, channels in kinds:
        assert same(model(image, channels=channels, **QUESTION), expected)


@pytest.mark.parametrize('batch_size', [1, 2, 5])
def test_folders_globs_and_lists_are_answered_in_order(model, folder, batch_size):
    found = model(folder, batch_size=batch_size, **QUESTION)
    assert [answer.image[-5:] for answer in found] == ['a.png', 'b.png', 'c.JPG']
    globbed = model(f'{folder}/*.png', batch_size=batch_size, **QUESTION)
    listed = model([folder / 'a.png', f'{folder}/b.png'], batch_size=batch_size, **QUESTION)
    for ours, theirs in zip(found[:2], globbed, strict=True):
        assert same(ours, theirs)
    for ours, theirs in zip(found[:2], listed, strict=True):
        assert same(ours, theirs)


def test_an_iterator_is_read_as_it_is_answered(model, folder):
    taken = []

    def images():
        for _ in range(9):
            taken.append(1)
            yield folder / 'a.png'

    answers = model.stream(images(), **QUESTION)
    next(answers)
    assert 0 < len(taken) < 5
    assert len(list(answers)) == 8


@pytest.mark.parametrize('images, message', [
    ('missing.png', 'No such image file'), ('*.gif', r'No file matches \*.gif'),
    ('https://example.org/a.png', 'allow_urls=True'), ([], None)])
def test_images_that_are_not_there_are_said(model, images, message, monkeypatch):
    monkeypatch.setattr(model._perceiver, 'encode', lambda *_: pytest.fail('asked'))
    if message is None:
        assert model(images, **QUESTION) == []
    else:
        with pytest.raises((FileNotFoundError, ValueError), match=message):
            model(images, **QUESTION)


def test_an_empty_folder_is_an_error(model, tmp_path):
    with pytest.raises(FileNotFoundError, match='No image file in the folder'):
        model(tmp_path, **QUESTION)


def test_several_sentences_are_answered_image_by_image(model, folder):
    texts = ['the circle', 'all squares', 'the star on the left']
    found = model(f'{folder}/*.png', text=texts, thinking=False, progress=False, batch_size=2)
    assert [(a.image[-5:], a.question['text']) for a in found] == [
        (name, text) for name in ('a.png', 'b.png') for text in texts]
    assert [a.task for a in found[:3]] == [
        'referring_segmentation', 'generalized_referring', 'referring_segmentation']
    alone = model(folder / 'b.png', text=texts[2], thinking=False)
    np.testing.assert_allclose(found[5].boxes, alone.boxes, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize('question', [
    dict(words=['circle']), dict(text=['the red circle', 'the star'])])
def test_the_next_images_are_read_while_one_is_answered(model, folder, question, monkeypatch):
    files, read = sorted(folder.glob('*.png')) * 3, []
    prepare = model._prepare
    monkeypatch.setattr(model, '_prepare', lambda source: read.append(source.name) or prepare(
        source))
    answers = model.stream(files, progress=False, batch_size=1, workers=1, **question)
    next(answers)
    wait_until(lambda: len(read) >= 3)    # the one that is answered, and two ahead at most
    assert read == [str(file) for file in files[:3]]
    assert len([*answers]) == len(files) * len(question.get('text', ' ')) - 1
    assert read == [str(file) for file in files]


def test_an_opened_picture_is_encoded_once(model, folder, monkeypatch):
    counts = dict.fromkeys(('encoder', 'pixel_decoder', 'connector', 'read_prefix'), 0)

    def count(name):
        counts[name] += 1

    network = model._inferencer.model
    hooks = [getattr(network, name).register_forward_hook(lambda *_, name=name: count(name))
             for name in ('encoder', 'pixel_decoder', 'connector')]
    read = network.llm.read_prefix
    monkeypatch.setattr(network.llm, 'read_prefix', lambda e: count('read_prefix') or read(e))
    picture = model.open(folder / 'a.png')
    for number in range(5):
        picture.ask(f'the star {number}', thinking=False)
    for hook in hooks:
        hook.remove()
    assert counts == dict(encoder=1, pixel_decoder=1, connector=1, read_prefix=1)
    assert picture.size == (50, 70) and picture.pixels.shape == (50, 70, 3)


@pytest.mark.parametrize('thinking', [False, True])
@pytest.mark.parametrize('question', [
    dict(words=['circle', 'grass'], task='panoptic'), dict(words=['circle']),
    dict(text='the circle'), dict(task='caption')])
def test_an_opened_picture_answers_as_the_model_does(model, folder, question, thinking):
    if question.get('task') == 'caption' and not thinking:
        pytest.skip('a caption is written')
    alone = model(folder / 'a.png', thinking=thinking, progress=False, **question)
    picture = model.open(folder / 'a.png')
    picture.ask(thinking=thinking, **question)
    again = picture.ask(thinking=thinking, **question)
    assert again.labels == alone.labels and again.caption == alone.caption
    np.testing.assert_allclose(again.boxes, alone.boxes, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(again.scores, alone.scores, rtol=1e-4, atol=1e-4)
    if alone.segments is not None:
        assert np.mean(again.segments.map != alone.segments.map) < 1e-3


def test_only_one_image_can_be_opened(model, folder):
    with pytest.raises(ValueError, match='one image'):
        model.open(folder)


@pytest.mark.parametrize('question, message', [
    (dict(), "Ask with words"), (dict(words=['a'], text='b'), 'not with both'),
    (dict(text=[]), 'empty list'), (dict(text='the cat', batch_size=0), 'batch_size must be'),
    (dict(text='the cat', threshold=2), 'threshold must be'),
    (dict(text='the cat', task='instanse'), "did you mean 'instance'"),
    (dict(text=['the cat', 3]), 'Ask with words')])
def test_wrong_questions_are_refused_before_any_image_is_read(model, question, message):
    with pytest.raises(ValueError, match=message):
        model('missing.png', **question)


def test_words_are_known_in_any_case(model, folder):
    lower = model(folder / 'a.png', **QUESTION)
    upper = model(folder / 'a.png', **{**QUESTION, 'words': ['Circle', 'SQUARE']})
    assert np.array_equal(upper.boxes, lower.boxes)
    assert [label.lower() for label in upper.labels] == lower.labels
    assert set(upper.labels) <= {'Circle', 'SQUARE'}


def test_repeated_answers_are_removed_unless_the_model_s_setting_is_asked_for(model, folder,
                                                                              monkeypatch):
    seen, predict = [], model._inferencer.model.predict
    monkeypatch.setattr(model._inferencer.model, 'predict', lambda **options: seen.append(
        options['answering'].nms_iou) or predict(**options))
    for options in ({}, dict(nms_iou=0.7), dict(nms_iou=None)):
        model(folder / 'a.png', **options, **QUESTION)
    assert seen == [NMS_IOU, 0.7, model._inferencer.model.answering.nms_iou]


def test_a_threshold_leaves_segments_out(model, folder):
    question = dict(words=['circle', 'grass'], task='panoptic', thinking=False)
    found = model(folder / 'a.png', **question)
    assert len(found.segments.info) == len(found) > 0
    none = model(folder / 'a.png', threshold=1., **question)
    assert len(none) == 0 and not none.segments.map.any()


def test_errors_of_reading_name_the_file(model, folder):
    (folder / 'd.png').write_bytes(b'no image')
    answers = model.stream(folder, **QUESTION)
    assert [next(answers).image[-5:] for _ in range(3)] == ['a.png', 'b.png', 'c.JPG']
    with pytest.raises(ValueError, match=r'd\.png'):
        next(answers)


@pytest.fixture
def tested_dataset(folder):
    """The folder's images as a dataset that tools/test.py would load."""
    names = ['a.png', 'b.png', 'c.JPG']
    (folder / 'truth.json').write_text(json.dumps(dict(
        images=[dict(id=k, file_name=name, height=50, width=70) for k, name in enumerate(names)],
        categories=[dict(id=1, name='circle'), dict(id=2, name='square')],
        annotations=[dict(id=k, image_id=k, category_id=1, bbox=[5, 5, 20, 20], area=400,
                          segmentation=[[5, 5, 25, 5, 25, 25, 5, 25]], iscrowd=0)
                     for k in range(3)])))

    def build(pipeline):
        tokenize, *fit, _ = pipeline
        return DATASETS.build(dict(
            type='CocoInstanceDataset', data_root=str(folder), ann_file='truth.json',
            data_prefix=dict(img=''), tasks=[dict(type='InstanceTask')], test_mode=True, pipeline=[
                dict(tokenize, type='BuildInstructions', training=False), dict(type='LoadImage'),
                dict(type='LoadPerceptionAnnotations'), *fit,
                dict(type='PackPerceptionInputs', with_eval=True)]))

    return build


@pytest.mark.parametrize('batch_size', [1, 3])
def test_answers_are_those_of_the_test_loop(model, folder, tested_dataset, batch_size):
    """What tools/test.py runs: dataset, collation and the model's own test step."""
    dataset = tested_dataset(model._inferencer.config.inferencer.pipeline)
    expected = []
    for start in range(0, 3, batch_size):
        batch = perception_collate([dataset[k] for k in range(start, start + batch_size)])
        expected += model._inferencer.model.test_step(batch)
    answers = model(folder, words=['circle', 'square'], task='instance', threshold=0.,
                    nms_iou=None, batch_size=batch_size, progress=False)
    for answer, sample in zip(answers, expected, strict=True):
        found = sample.pred_instances
        assert len(answer) == len(found) > 0 and answer.caption == sample.pred_caption
        assert np.array_equal(answer.boxes, found.bboxes.numpy())
        assert np.array_equal(answer.scores, found.scores.numpy())
        assert np.array_equal(answer.masks, found.masks.numpy())
        assert answer.labels == [sample.instruction.phrases[k] for k in found.labels]
