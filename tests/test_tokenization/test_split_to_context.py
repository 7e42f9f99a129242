# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import json

import numpy as np
import pytest

from mvp_mm.registry import TASKS, TOKENIZERS, TRANSFORMS
from mvp_mm.structures import ImageAnnotation
from mvp_mm.tokenization.instruction_tokenizer import TooLongError
from mvp_mm.tokenization.split_to_context import tokenize_in_parts
from tests.test_datasets.small_data import SAMPLE, needs_sample, tokenizer_config

NAMES = tuple(f'kind {letter * 4}' for letter in 'abcdefghij')


def tokenizer(path, max_length):
    return TOKENIZERS.build(dict(tokenizer_config(path), max_length=max_length))


def question(names=NAMES, task='PanopticTask', **options):
    built = TASKS.build(dict(type=task, **options))
    return built.ask(words=list(names)).instruction


def asked(instruction):
    return [part.instruction.phrases for part in instruction.parts]


def full_length(path, names=NAMES):
    return tokenizer(path, 10_000).tokenize(question(names)).prompt_length


def test_a_list_that_fits_is_asked_as_a_whole(tmp_path):
    instruction = question()
    tokenize_in_parts(instruction, tokenizer(tmp_path, full_length(tmp_path)))
    assert not instruction.parts and instruction.prompt_length == full_length(tmp_path)


def test_room_for_the_response_counts(tmp_path):
    instruction = question()
    tokenize_in_parts(instruction, tokenizer(tmp_path, full_length(tmp_path) + 5), 6)
    assert len(instruction.parts) == 2 and instruction.input_ids is None


@pytest.mark.parametrize('missing', [1, 45, 80])
def test_every_name_is_asked_once_and_in_order(tmp_path, missing):
    limit = full_length(tmp_path) - missing
    instruction = question()
    tokenize_in_parts(instruction, tokenizer(tmp_path, limit))
    assert sum(asked(instruction), []) == list(NAMES)
    assert np.concatenate([p.classes for p in instruction.parts]).tolist() == list(range(10))
    lengths = [p.instruction.prompt_length for p in instruction.parts]
    # No part but the last has room for one more name.
    assert max(lengths) <= limit and min(lengths[:-1]) > limit - len(' kind aaaa,')


def test_a_part_asks_as_a_list_of_its_own_would(tmp_path):
    instruction = question(stuff_names=NAMES[8:])
    tokenize_in_parts(instruction, tokenizer(tmp_path, full_length(tmp_path) - 30))
    last = instruction.parts[-1].instruction
    alone = question(last.phrases)
    tokenizer(tmp_path, 10_000).tokenize(alone)
    assert last.prompt == alone.prompt
    assert last.input_ids.tolist() == alone.input_ids.tolist()
    assert last.is_thing.tolist() == [name in NAMES[:8] for name in last.phrases]
    assert last.use_stuff_queries and last.kind == 'word'


def test_the_names_of_a_class_stay_together(tmp_path):
    names = ['aa, bb, cc', 'dd', 'ee, ff, gg']
    instruction = question(names, synonyms='max')
    limit = full_length(tmp_path, ['aa', 'bb', 'cc', 'dd', 'ee'])
    tokenize_in_parts(instruction, tokenizer(tmp_path, limit))
    assert asked(instruction) == [['aa', 'bb', 'cc', 'dd'], ['ee', 'ff', 'gg']]
    assert [p.classes.tolist() for p in instruction.parts] == [[0, 0, 0, 1], [2, 2, 2]]


def test_synonyms_that_fit_make_one_part(tmp_path):
    instruction = question(['road, route', 'sky'], synonyms='max')
    tokenize_in_parts(instruction, tokenizer(tmp_path, 1000))
    assert asked(instruction) == [['road', 'route', 'sky']]
    assert instruction.phrases == ['road, route', 'sky']


def test_a_name_that_cannot_fit_is_refused_by_name(tmp_path):
    instruction = question(['cat', 'x' * 50])
    limit = full_length(tmp_path, ['cat']) + 20
    with pytest.raises(TooLongError, match="panoptic: 'xxx.*takes 51 tokens.*is room for 24"):
        tokenize_in_parts(instruction, tokenizer(tmp_path, limit))


def test_a_sentence_is_never_divided(tmp_path):
    sentence = TASKS.build(dict(type='ReferringSegmentationTask')).ask(text='far ' * 300)
    with pytest.raises(TooLongError):
        tokenize_in_parts(sentence.instruction, tokenizer(tmp_path, 600))


@pytest.mark.parametrize('task', ['DetectionTask', 'PanopticTask', 'SemanticTask'])
def test_in_evaluation_a_long_vocabulary_is_one_request_with_all_its_targets(tmp_path, task):
    annotation = ImageAnnotation(
        'here', vocabulary=NAMES, vocabulary_is_thing=np.ones(10, dtype=bool),
        labels=np.array([3, 9]), crowd=np.zeros(2, dtype=bool))
    build = TRANSFORMS.build(dict(
        type='BuildInstructions', training=False,
        tokenizer=tokenizer_config(tmp_path, max_length=full_length(tmp_path) - 1)))
    request, = build(dict(annotation=annotation, tasks=[TASKS.build(dict(type=task))]))['requests']
    assert request.labels.tolist() == [3, 9] and len(request.instruction.parts) == 2


def test_a_users_long_list_is_asked_in_parts(tmp_path):
    transform = TRANSFORMS.build(dict(
        type='TokenizeRequests', response_room=10,
        tokenizer=tokenizer_config(tmp_path, max_length=full_length(tmp_path) + 9)))
    request = TASKS.build(dict(type='DetectionTask')).ask(words=list(NAMES))
    results = transform(dict(requests=[request]))
    assert len(results['requests'][0].instruction.parts) == 2


@needs_sample
def test_the_names_of_lvis_fit_the_full_models_budget_in_three_parts():
    names = json.loads((SAMPLE / 'class_names/lvis_v1_1203.json').read_text())
    names = [entry['name'].replace('_', ' ') for entry in names]
    instruction = question(names, 'InstanceTask')
    tokenize_in_parts(instruction, TOKENIZERS.build(dict(
        type='InstructionTokenizer', path=str(SAMPLE / 'gpt2_bpe'), num_visual_tokens=256,
        max_length=2048)), response_room=128)
    assert sum(asked(instruction), []) == names and len(names) == 1203
    assert len(instruction.parts) == 3
    assert all(p.instruction.prompt_length <= 2048 - 128 for p in instruction.parts)
