# Copyright (c) mvp_mm authors. All rights reserved.
import numpy as np
import pytest

from mvp_mm.registry import TASKS
from mvp_mm.structures import ImageAnnotation, Referral, SegmentKind
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
    with pytest.raises(ValueError, match='here has no caption'):
        instruct(build('PanopticTask'), scene(captions=[]))
    request, = instruct(build('PanopticTask', missing_caption='none'), scene(captions=[]))
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


@pytest.mark.parametrize('kind', (*WORD_TASKS, 'PhraseGroundingTask'))
def test_ask_with_words(kind):
    task = build(kind, stuff_names=['sky'])
    request = task.ask(words=['red  car', 'sky'])
    assert request.instruction.phrases == ['red car', 'sky']
    assert request.instruction.is_thing.tolist() == [True, False]
    assert request.instruction.response == []
    for wrong in (dict(text='the car'), dict(words=[]), dict(words=['a', ' ']), dict(),
                  dict(words=['a', 'a']), dict(words='car')):
        with pytest.raises(ValueError):
            task.ask(**wrong)


@pytest.mark.parametrize('kind', ['ReferringSegmentationTask', 'GeneralizedReferringTask'])
def test_ask_with_a_sentence(kind):
    task = build(kind)
    assert task.ask(text=' the red  car ').instruction.phrases == ['the red car']
    for wrong in (dict(words=['car']), dict(text=' '), dict()):
        with pytest.raises(ValueError):
            task.ask(**wrong)


@pytest.mark.parametrize('kind, arguments', [
    ('PanopticTask', dict(response='poem')), ('PanopticTask', dict(num_negatives=(3, 1))),
    ('PanopticTask', dict(missing_caption='guess')),
    ('ReferringSegmentationTask', dict(max_per_image=0)),
    ('ReferringSegmentationTask', dict(num_candidates=-1))])
def test_bad_arguments(kind, arguments):
    with pytest.raises(ValueError):
        build(kind, **arguments)
