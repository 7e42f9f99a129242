# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import numpy as np
import pytest

from mvp_mm.registry import TASKS
from mvp_mm.structures import Answering, ImageAnnotation, Referral, SegmentKind
from mvp_mm.tasks.prompts import close_sentence

NAMES = ('cat', 'dog', 'bird', 'sky')
WORD_TASKS = ('PanopticTask', 'SemanticTask', 'InstanceTask', 'DetectionTask')
ALL_TASKS = (*WORD_TASKS, 'PhraseGroundingTask', 'ReferringSegmentationTask',
             'ReferringComprehensionTask', 'GeneralizedReferringTask', 'CaptionTask')


def scene(**changes) -> ImageAnnotation:
    """A dog, a crowd of cats, an object without class, a sky."""
    fields = dict(
        source='here', vocabulary=NAMES,
        vocabulary_is_thing=np.array([True, True, True, False]),
        labels=np.array([1, 0, -1, 3]), crowd=np.array([False, True, False, False]),
        captions=['A dog.'], referrals=[Referral('the dog', [0], 7, 70, 'attribute'),
                                        Referral('it barks', [0], 7, 71),
                                        Referral('the cats', [1], 8, 80)],
        caption_spans=[('a dog', [0]), ('cats', [1]), ('a thing', [2, 0])])
    return ImageAnnotation(**{**fields, **changes})


def build(kind, **kwargs):
    return TASKS.build(dict(type=kind, **kwargs))


def instruct(task, annotation=None, training=True, seed=0):
    annotation = scene() if annotation is None else annotation
    return task.instruct(annotation, np.random.default_rng(seed), training)


def response_text(request) -> str:
    return ''.join(s.text for s in request.instruction.response if s.kind == SegmentKind.RESPONSE)


@pytest.mark.parametrize('kind', WORD_TASKS)
@pytest.mark.parametrize('negatives', [None, (0, 0), (1, 2)])
def test_word_targets(kind, negatives):
    stuff = kind in ('PanopticTask', 'SemanticTask')
    task = build(kind, num_negatives=negatives)
    for seed in range(10):
        request, = instruct(task, seed=seed)
        phrases = request.instruction.phrases
        assert request.targets.tolist() == ([0, 3] if stuff else [0])
        assert [phrases[k] for k in request.labels] == (['dog', 'sky'] if stuff else ['dog'])
        flags = dict(zip(NAMES, scene().vocabulary_is_thing, strict=True))
        assert [bool(flags[p]) for p in phrases] == request.instruction.is_thing.tolist()
        if negatives == (0, 0):
            assert sorted(phrases) == (['dog', 'sky'] if stuff else ['dog'])
        if negatives is not None:
            assert 'cat' not in phrases


@pytest.mark.parametrize('kind', WORD_TASKS)
def test_evaluation_lists_the_vocabulary_in_order(kind):
    request, = instruct(build(kind, num_negatives=(0, 0)), training=False)
    assert request.instruction.phrases == list(NAMES[:len(request.instruction.phrases)])
    assert request.labels[0] == 1 and request.instruction.response == []


@pytest.mark.parametrize('kind', ALL_TASKS)
@pytest.mark.parametrize('training', [True, False])
def test_image_without_objects(kind, training):
    empty = ImageAnnotation(
        'here', vocabulary=NAMES, vocabulary_is_thing=np.array([True, True, True, False]),
        captions=['Nothing.'])
    for request in instruct(build(kind), empty, training):
        assert len(request.targets) == len(request.labels) == 0
    for request in instruct(build(kind), ImageAnnotation('here', captions=['Nothing.']), training):
        assert request.instruction.kind == 'caption'


def test_classless_objects_without_vocabulary():
    bare = ImageAnnotation('here', labels=np.array([-1]), crowd=np.array([False]))
    assert instruct(build('InstanceTask', response='none'), bare) == []


def test_shuffling_varies_and_is_seeded():
    task = build('PanopticTask')
    lists = [tuple(instruct(task, seed=seed)[0].instruction.phrases) for seed in (0, 0, 1, 2, 3)]
    assert lists[0] == lists[1] and len(set(lists)) > 2


@pytest.mark.parametrize('setting, text', [
    ('caption', 'A dog. The perception result is'),
    ('existing', 'dog. The perception result is'), ('none', 'The perception result is')])
def test_responses(setting, text):
    request, = instruct(build('InstanceTask', response=setting))
    assert response_text(request) == text
    assert [s.kind for s in request.instruction.response[1:]] == [SegmentKind.PER, SegmentKind.EOS]


def test_missing_caption():
    for rule in ('error', 'leave_out'):
        task = build('PanopticTask', response='caption', missing_caption=rule)
        with pytest.raises(ValueError, match='here has no caption'):
            instruct(task, scene(captions=[]))
    for choice in (dict(missing_caption='none'), dict(response='caption', missing_caption='none'),
                   dict(response='auto')):
        request, = instruct(build('PanopticTask', **choice), scene(captions=[]))
        assert response_text(request) == 'The perception result is'


@pytest.mark.parametrize('text, closed', [
    ('A dog', 'A dog.'), ('A dog.', 'A dog.'), (' A dog... ', 'A dog.'), ('', ''), ('.', '')])
def test_one_period(text, closed):
    assert close_sentence(text) == closed


@pytest.mark.parametrize('kind', ['ReferringSegmentationTask', 'ReferringComprehensionTask',
                                  'GeneralizedReferringTask'])
def test_referring_requests(kind):
    requests = instruct(build(kind))
    assert [r.instruction.phrases for r in requests] == [['the dog'], ['it barks']]
    assert [r.targets.tolist() for r in requests] == [[0], [0]]
    assert requests[0].meta == dict(
        ref_id=7, sent_id=70, expression='the dog', expression_kind='attribute')
    assert len(instruct(build(kind, max_per_image=1))) == 1
    joined, = instruct(build(kind, join_sentences=True))
    assert joined.instruction.phrases == ['the dog. it barks']


@pytest.mark.parametrize('joined, asked', [
    (False, ['the dog', 'it barks', 'the cats']), (True, ['the dog. it barks', 'the cats'])])
def test_evaluation_asks_about_crowds_too(joined, asked):
    requests = instruct(build('ReferringSegmentationTask', join_sentences=joined), training=False)
    assert [r.instruction.phrases for r in requests] == [[text] for text in asked]
    assert requests[-1].targets.tolist() == [1] and requests[-1].meta['ref_id'] == 8


@pytest.mark.parametrize('targets', [[], [0, 3]])
def test_number_of_targets(targets):
    annotation = scene(referrals=[Referral('these', targets, 1, 10)])
    with pytest.raises(ValueError, match='here: sentence 10 of reference 1 means'):
        instruct(build('ReferringSegmentationTask'), annotation)
    request, = instruct(build('GeneralizedReferringTask'), annotation)
    assert request.targets.tolist() == targets and request.labels.tolist() == [0] * len(targets)


def test_grounding_targets_and_negatives():
    task = build('PhraseGroundingTask', max_negatives=4)
    annotation = scene(vocabulary=('a dog house', 'red car', 'green tree'),
                       vocabulary_is_thing=np.ones(3, dtype=bool), labels=np.full(4, -1))
    drawn = set()
    for seed in range(20):
        request, = instruct(task, annotation, seed=seed)
        phrases = request.instruction.phrases
        pairs = [(phrases[k], t) for k, t in zip(request.labels, request.targets, strict=True)]
        assert sorted(pairs) == [('a dog', 0), ('a thing', 0), ('a thing', 2)]
        drawn |= set(phrases) - {'a dog', 'a thing'}
    assert drawn == {'red car', 'green tree'}
    request, = instruct(task, annotation, training=False)
    assert request.instruction.phrases == ['a dog', 'a thing']


BAD_WORDS = [
    dict(text='the car'), dict(words=[]), dict(words=['a', ' ']), dict(), dict(words='car'),
    dict(words=['a', 'a']), dict(words=['hot dog', 'hot  dog']), dict(words=['a', None]),
    dict(words=['a', 3]), dict(words=['a', '\u200b']), dict(words=['a', 'b\ud800']),
    dict(words=['cafe\u0301', 'caf\u00e9']), dict(words=['cat', 'cat\u200b']), dict(words=7),
    dict(words=b'cat'), dict(words=[['cat']])]


@pytest.mark.parametrize('kind', (*WORD_TASKS, 'PhraseGroundingTask'))
def test_ask_with_words(kind):
    task = build(kind, stuff_names=['sky'])
    request = task.ask(words=['red  car', 'sky'])
    assert request.instruction.phrases == ['red car', 'sky']
    assert request.instruction.is_thing.tolist() == [True, False]
    assert request.instruction.response == []


@pytest.mark.parametrize('wrong', BAD_WORDS, ids=lambda wrong: ascii(wrong))
def test_words_that_cannot_be_asked_are_refused(wrong):
    with pytest.raises(ValueError, match='Task instance'):
        build('InstanceTask').ask(**wrong)


def test_words_are_asked_as_they_stand_but_for_white_space():
    request = build('InstanceTask').ask(words=['cafe\u0301', 'a\u00a0 b', '\U0001f7e2'])
    assert request.instruction.phrases == ['cafe\u0301', 'a b', '\U0001f7e2']


def test_stuff_is_what_the_caller_then_the_task_then_the_class_list_says():
    words, known = ['car', 'sky', 'gizmo'], {'car': True, 'sky': False}
    told = build('PanopticTask', stuff_names=['car']).ask(words=words, stuff=['sky'], known=known)
    assert told.instruction.is_thing.tolist() == [True, False, True]
    assert told.instruction.undecided is None
    listed = build('PanopticTask', stuff_names=['car']).ask(words=words, known=known).instruction
    assert listed.is_thing.tolist() == [False, True, True] and listed.undecided is None
    open_ended = build('PanopticTask').ask(words=words, known=known).instruction
    assert open_ended.is_thing.tolist() == [True, False, True]
    assert open_ended.undecided.tolist() == [False, False, True]
    with pytest.raises(ValueError, match=r"stuff names \['sea'\] that are not among the words"):
        build('PanopticTask').ask(words=words, stuff=['sea'])


@pytest.mark.parametrize('kind', ['InstanceTask', 'DetectionTask'])
def test_stuff_queries_take_part_in_instances_where_a_word_may_be_stuff(kind):
    task = build(kind)
    assert task.ask(words=['car', 'sky'], stuff=['sky']).instruction.use_stuff_queries
    assert task.ask(words=['car', 'sky']).instruction.use_stuff_queries
    things = task.ask(words=['car', 'bus'], stuff=[]).instruction
    assert not things.use_stuff_queries and things.undecided is None
    request, = instruct(task, training=False)
    assert not request.instruction.use_stuff_queries


def test_grounded_phrases_are_never_stuff():
    instruction = build('PhraseGroundingTask').ask(words=['a dog', 'grass']).instruction
    assert not instruction.use_stuff_queries and instruction.undecided is None


BAD_TEXTS = [dict(words=['car']), dict(text=' '), dict(), dict(text=['a car']), dict(text=5),
             dict(text='\u200b\u2060'), dict(text='car \udcff')]


@pytest.mark.parametrize('kind', ['ReferringSegmentationTask', 'GeneralizedReferringTask'])
def test_ask_with_a_sentence(kind):
    assert build(kind).ask(text=' the red  car ').instruction.phrases == ['the red car']


@pytest.mark.parametrize('wrong', BAD_TEXTS, ids=lambda wrong: ascii(wrong))
def test_sentences_that_cannot_be_asked_are_refused(wrong):
    with pytest.raises(ValueError, match='Task referring_segmentation'):
        build('ReferringSegmentationTask').ask(**wrong)


@pytest.mark.parametrize('options, message', [
    (dict(same_io=0.7), "no option 'same_io'; did you mean 'same_iou'"),
    (dict(nms_iou=0), 'answering.nms_iou must be None or in'),
    (dict(nms_iou=float('nan')), 'nms_iou'), (dict(same_iou=1.1), 'same_iou'),
    (dict(same_iou='0.7'), 'same_iou'), (dict(separate_stuff=True), "no option 'separate_stuff'"),
    (dict(least_score=2), 'least_score'), (dict(least_score=True), 'least_score')])
def test_wrong_options_of_decoding_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Answering.from_config(options)


def test_the_paper_s_decoding_is_the_default():
    assert Answering.from_config(None) == Answering(
        same_iou=None, nms_iou=None, least_score=0.0)


@pytest.mark.parametrize('kind, arguments', [
    ('PanopticTask', dict(response='poem')), ('PanopticTask', dict(num_negatives=(3, 1))),
    ('PanopticTask', dict(missing_caption='guess')),
    ('ReferringSegmentationTask', dict(max_per_image=0)),
    ('ReferringSegmentationTask', dict(num_candidates=-1))])
def test_bad_arguments(kind, arguments):
    with pytest.raises(ValueError):
        build(kind, **arguments)
