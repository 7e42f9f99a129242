# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import json

import numpy as np
import pytest

from mvp_mm.registry import TASKS
from mvp_mm.structures import ImageAnnotation, SegmentKind
from tests.test_datasets.small_data import SAMPLE, needs_sample

NAMES = ('road, route', 'screen door, screen', 'screen, silver screen')


def asked(instruction):
    return [s.text for s in instruction.prompt if s.kind is SegmentKind.PHRASE]


def ask(rule, names=NAMES):
    return TASKS.build(dict(type='SemanticTask', synonyms=rule)).ask(words=list(names)).instruction


@pytest.mark.parametrize('rule, read', [
    ('joined', list(NAMES)), ('first', ['road', 'screen door', 'screen']),
    ('max', ['road', 'route', 'screen door', 'screen', 'silver screen'])])
def test_what_the_llm_reads(rule, read):
    instruction = ask(rule)
    assert asked(instruction) == read
    assert instruction.phrases == list(NAMES)


def test_a_shared_name_belongs_to_the_class_that_lists_it_earliest():
    assert ask('max').classes.tolist() == [0, 0, 1, 2, 2]


def test_names_without_synonyms_need_no_parts():
    assert ask('max', ['road', 'sky']).classes is None


def test_a_phrase_with_a_comma_stays_whole_by_default():
    task = TASKS.build(dict(type='PhraseGroundingTask'))
    assert asked(task.ask(words=['a black, white dog']).instruction) == ['a black, white dog']


def test_training_draws_one_name_a_class():
    task = TASKS.build(dict(type='SemanticTask', synonyms='max', response='none'))
    annotation = ImageAnnotation(
        'here', vocabulary=NAMES, vocabulary_is_thing=np.zeros(3, bool), labels=np.array([0]),
        crowd=np.zeros(1, bool))
    rng = np.random.default_rng(0)
    drawn = [task.instruct(annotation, rng, True)[0].instruction for _ in range(40)]
    assert {name for i in drawn for name in asked(i)} == {
        'road', 'route', 'screen door', 'screen', 'silver screen'}
    assert all(i.classes is None and len(asked(i)) == 3 for i in drawn)
    assert all(sorted(i.phrases) == sorted(NAMES) for i in drawn)


@pytest.mark.parametrize('rule', ['first', 'max'])
def test_a_class_without_a_name_of_its_own_is_refused(rule):
    with pytest.raises(ValueError, match=rf"{rule}.*other classes are called as \['road'\]"):
        ask(rule, ['road, route', 'road'])


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="'joined', 'first', 'max'.*got 'mean'"):
        TASKS.build(dict(type='SemanticTask', synonyms='mean'))


@needs_sample
@pytest.mark.parametrize('rule', ['first', 'max'])
def test_every_class_of_ade20k_keeps_a_name(rule):
    content = json.loads((SAMPLE / 'class_names/ade20k_150_panoptic.json').read_text())
    names = [entry['name'] for entry in content]
    instruction = ask(rule, names)
    read = asked(instruction)
    assert len(read) == len(set(read)) >= 150
    if rule == 'max':
        # "pot" is a class, and the last but two of the names of "toilet, can, …".
        assert instruction.phrases[instruction.classes[read.index('pot')]] == 'pot'
