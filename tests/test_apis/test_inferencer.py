# Copyright (c) mvp_mm authors. All rights reserved.
"""Questions through the inferencer: stuff, options of a call, names of answers, threads."""
from __future__ import annotations

import gc
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from pycocotools import mask as coco_mask

from mvp_mm.apis import answers
from mvp_mm.apis import inferencer as module
from mvp_mm.datasets.vocabulary.known_words import known_things
from mvp_mm.registry import TASKS
from mvp_mm.structures import Answering, PerceptionDataSample

WORDS = ['circle', 'grass', 'gizmo', 'sky']


def asked_flags(inferencer, **question):
    """Flags of the words as asked: True, False or None where both are tried."""
    question = {'task': 'panoptic', 'words': WORDS, **question}
    instruction = inferencer.question(**question).request().instruction
    open_ended = instruction.undecided
    return [None if open_ended is not None and open_ended[k] else bool(thing)
            for k, thing in enumerate(instruction.is_thing)]


@pytest.mark.parametrize('task', ['panoptic', 'semantic', 'instance', 'detection'])
def test_stuff_is_known_from_the_checkpoint_and_from_class_lists(inferencer, task):
    assert asked_flags(inferencer, task=task) == [True, False, None, False]
    assert asked_flags(inferencer, task=task, stuff=['gizmo']) == [True, True, False, True]


def test_class_lists_that_disagree_leave_a_word_open():
    known = known_things()
    assert known['person'] and known['cell phone'] and not known['sky'] and not known['floor']
    assert 'table' not in known and 'curtain' not in known


def test_the_checkpoint_s_classes_come_before_class_lists(inferencer, monkeypatch):
    monkeypatch.setattr(inferencer, 'trained_classes', {'sky': True})
    assert asked_flags(inferencer) == [None, False, None, True]


@pytest.mark.parametrize('meta', [
    {}, dict(dataset_meta=None), dict(dataset_meta='x'), dict(dataset_meta=dict(classes=('a',))),
    dict(dataset_meta=dict(classes=('a',), thing_flags=())),
    dict(dataset_meta=dict(classes=(3,), thing_flags=(True,)))])
def test_a_checkpoint_without_classes_knows_no_word(meta):
    assert module._trained_classes(meta) == {}


def test_the_options_of_a_call_reach_the_task_and_change_nothing(inferencer, image, monkeypatch):
    seen, predict = [], inferencer.model.predict
    monkeypatch.setattr(inferencer.model, 'answering', Answering(same_iou=0.6))
    monkeypatch.setattr(inferencer.model, 'predict', lambda **options: seen.append(
        (options['thinking'], options['answering'])) or predict(**options))
    inferencer(image, 'instance', words=WORDS, thinking=False, score_thr=0.2, nms_iou=0.5)
    inferencer(image, 'instance', words=WORDS)
    assert seen == [(False, Answering(same_iou=0.6, nms_iou=0.5, least_score=0.2)),
                    (None, Answering(same_iou=0.6, least_score=0.3))]
    assert inferencer.model.answering == Answering(same_iou=0.6) and inferencer.model.thinking


@pytest.mark.parametrize('task', ['panoptic', 'instance', 'detection', 'grounding'])
def test_a_threshold_keeps_exactly_the_better_answers(inferencer, image, task):
    question = dict(task=task, words=['circle', 'square'], thinking=False)
    everything = inferencer(image, score_thr=0., **question)[0]['instances']
    threshold = sorted(item['score'] for item in everything)[len(everything) // 2] + 5e-5
    found = inferencer(image, score_thr=threshold, **question)[0]['instances']
    assert found == [item for item in everything if item['score'] > threshold]
    assert 0 < len(found) < len(everything)


def test_every_kind_of_image_gives_one_answer(inferencer, image, tmp_path):
    path = tmp_path / 'x.png'
    cv2.imwrite(str(path), image)
    pil = Image.fromarray(image[..., ::-1])
    question = dict(task='instance', words=['circle'], thinking=False, score_thr=0.)
    answers_ = inferencer([path, str(path), image, pil, image.copy(order='F')], **question)
    answers_ += inferencer(iter([image]), **question) + inferencer(pil, **question)
    assert len(answers_) == 7 and answers_[0]['instances']
    assert all(answer['instances'] == answers_[0]['instances'] for answer in answers_)
    assert inferencer([], **question) == []


@pytest.mark.parametrize('bad', [None, b'x', np.zeros((4, 4, 3), np.int64), torch.zeros(5, 4, 4)])
def test_a_bad_image_is_refused_before_any_is_asked_about(inferencer, image, bad, monkeypatch):
    monkeypatch.setattr(inferencer.model, 'predict', lambda **_: pytest.fail('asked'))
    with pytest.raises(ValueError, match=r'image_1: an image is'):
        inferencer([image, bad], 'instance', words=['circle'])
    with pytest.raises(FileNotFoundError):
        inferencer([image, 'missing.png'], 'instance', words=['circle'])


@pytest.mark.parametrize('question, message', [
    (dict(score_thr=float('nan')), 'threshold must be'), (dict(score_thr=2), 'threshold must be'),
    (dict(score_thr='0.5'), 'threshold must be'), (dict(nms_iou=0), 'nms_iou must be'),
    (dict(thinking='no'), 'thinking must be'), (dict(words=None), 'at least one word'),
    (dict(stuff=['sea']), 'not among the words'), (dict(stuff='sky'), 'a list of stuff names'),
    (dict(task='instanse'), "'instanse', did you mean 'instance'"),
    (dict(task='caption', words=None, thinking=False), 'without thinking'),
    (dict(task='referring_segmentation', words=None, text='a cat', stuff=['a']), 'no stuff names'),
    (dict(task='referring_segmentation', words=None, text=['a', 'b']), 'must be a text')])
def test_wrong_questions_are_refused_at_once(inferencer, question, message, monkeypatch):
    monkeypatch.setattr(inferencer.model, 'predict', lambda **_: pytest.fail('asked'))
    with pytest.raises(ValueError, match=message):
        inferencer('missing.png', **{'task': 'instance', 'words': ['circle', 'sky'], **question})


@pytest.mark.parametrize('task, threshold, offered, score, presence', [
    ('referring_segmentation', None, dict(score_thr=0.4, presence_thr=0.7), None, 0.7),
    ('referring_segmentation', 0., dict(score_thr=0.4), 0.4, None),
    ('referring_segmentation', 0.2, dict(presence_thr=0.7), 0.2, None),
    ('referring_segmentation', None, None, 0.5, None),
    ('generalized_referring', None, dict(presence_thr=0.7), None, 0.7),
    ('instance', None, dict(presence_thr=0.7), None, None)])
def test_a_sentences_object_is_found_as_generalized_referring_finds_it(
        inferencer, monkeypatch, task, threshold, offered, score, presence):
    tasks = {name: kind for name, kind in inferencer.config.inferencer.tasks.items()
             if name != 'generalized_referring'}
    if offered is not None:
        tasks['generalized_referring'] = dict(type='GeneralizedReferringTask', **offered)
    monkeypatch.setattr(inferencer, 'config', Config(dict(inferencer=dict(tasks=tasks))))
    asked = dict(words=['circle']) if task == 'instance' else dict(text='the circle')
    question = inferencer.question(task, threshold=threshold, **asked)
    assert (question.found_thr, question.presence_thr) == (score, presence)


@pytest.mark.parametrize('question', [dict(text='describe the image'), dict(task='caption')])
def test_a_description_without_thinking_is_refused_in_words_that_help(inferencer, question):
    with pytest.raises(ValueError, match=r'A description .* leave thinking=False \(--no-thinking'):
        inferencer.choose_question(thinking=False, **question)


def test_a_question_beyond_the_context_is_refused(inferencer, image):
    with pytest.raises(ValueError, match='exceed max_length'):
        inferencer(image, 'referring_segmentation', text='left ' * 400)


def test_answers_never_overwrite_each_other(inferencer, image, tmp_path):
    for folder in 'ab':
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / 'x.png'), image)
    question = dict(task='instance', words=['circle'], thinking=False, out_dir=tmp_path / 'out')
    paths = [tmp_path / 'a/x.png', tmp_path / 'b/x.png', image]
    found = inferencer(paths, **question) + inferencer([image, paths[1]], **question)
    names = [answer['files']['json'] for answer in found]
    assert [name.rsplit('/', 1)[1] for name in names] == [
        'x_instance.json', 'x_instance_2.json', 'image_2_instance.json', 'image_0_instance.json',
        'x_instance_3.json']
    for answer in found:
        assert json.loads(Path(answer['files']['json']).read_text()) == answer
        assert cv2.imread(answer['files']['png']) is not None
    assert len(list((tmp_path / 'out').iterdir())) == 10


def test_a_picture_without_its_json_is_not_overwritten(tmp_path):
    (tmp_path / 'x.png').touch()
    assert answers.reserve_name(tmp_path, 'x') == 'x_2'


def test_threads_get_their_own_answers(inferencer):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (40, 50, 3), dtype=np.uint8) for _ in range(2)]
    words = dict(task='panoptic', words=['circle', 'grass'])
    questions = [dict(words, score_thr=0.), dict(words, score_thr=0.2),
                 dict(task='generalized_referring', text='a star')]
    cases = [dict(images=picture, thinking=thinking, **question)
             for picture, thinking, question in product(pictures, (True, False), questions)]

    def ask(case):
        return json.dumps(inferencer(**case))

    truth = [ask(case) for case in cases]
    assert len(set(truth)) == len(cases)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, cases * 3)) == truth * 3
    assert inferencer.model.thinking


def test_threads_write_to_their_own_files(inferencer, image, tmp_path):
    question = dict(task='detection', words=['circle'], thinking=False, out_dir=tmp_path)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: inferencer(image, **question)[0], range(8)))
    assert len({answer['files']['png'] for answer in found}) == 8
    assert len(list(tmp_path.iterdir())) == 16


@pytest.mark.parametrize('shape', [(3000, 4), (1, 4000), (300, 1), (1000, 3)])
@pytest.mark.parametrize('task', ['panoptic', 'semantic', 'referring_segmentation'])
def test_strips_are_answered_in_their_size(inferencer, tmp_path, shape, task):
    question = (dict(text='the circle') if task == 'referring_segmentation'
                else dict(words=['circle', 'grass']))
    strip = np.full((*shape, 3), 90, dtype=np.uint8)
    result, = inferencer(strip, task, score_thr=0., thinking=False, out_dir=tmp_path, **question)
    assert result['size'] == list(shape)
    found = result['instances'] + result.get('panoptic', []) + result.get('semantic', [])
    assert all(item['segmentation']['size'] == list(shape) for item in found)
    assert Path(result['files']['png']).is_file()


def test_fifty_calls_leave_nothing_behind(inferencer, image):
    def ask():
        inferencer(image, 'panoptic', words=['circle', 'grass'], thinking=False)

    for _ in range(3):
        ask()
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(50):
        ask()
    gc.collect()
    assert len(gc.get_objects()) - before < 50


def test_regions_are_encoded_as_they_are():
    sample = PerceptionDataSample()
    labels = torch.tensor([[0, 0, 2], [2, 0, 2]])
    sample.pred_sem_seg = labels
    sample.instruction = _instruction(['a', 'b', 'c'])
    found = answers.describe(sample, (2, 3))['semantic']
    assert [item['label'] for item in found] == ['a', 'c']
    for item, value in zip(found, (0, 2), strict=True):
        mask = coco_mask.decode(item['segmentation']).astype(bool)
        assert np.array_equal(mask, labels.numpy() == value)


def _instruction(words):
    return TASKS.build(dict(type='SemanticTask')).ask(words=words).instruction
