# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import numpy as np
import pytest

from mvp_mm.registry import TASKS, TOKENIZERS
from mvp_mm.structures import ImageAnnotation
from mvp_mm.tokenization.split_to_context import tokenize_in_parts
from mvp_mm.visualization.instruction_panel import instruction_panel, instruction_runs
from tests.test_datasets.small_data import tokenizer_config


@pytest.fixture
def tokenizer(tmp_path):
    return TOKENIZERS.build(tokenizer_config(tmp_path))


@pytest.fixture
def instruction(tokenizer):
    annotation = ImageAnnotation(
        'here', vocabulary=('cat', 'hot dog'), vocabulary_is_thing=np.ones(2, dtype=bool),
        captions=['A cat sits.'])
    request = TASKS.build(dict(type='PanopticTask')).instruct(
        annotation, np.random.default_rng(0), True)[0]
    return tokenizer.tokenize(request.instruction)


def test_the_stretches_spell_the_whole_sequence(instruction, tokenizer):
    text = ''.join(run[0] for run in instruction_runs(instruction, tokenizer))
    assert text.startswith('Please identify all objects')
    assert '[image × 4]' in text and '\nAnswer:' in text
    assert text.endswith(' A cat sits. The perception result is <PER> [end]')


def test_every_phrase_has_ground_of_its_own(instruction, tokenizer):
    grounds = {text.strip(): ground
               for text, _, ground in instruction_runs(instruction, tokenizer)}
    named = [grounds[p] for p in instruction.phrases]
    assert None not in named and named[0] != named[1]
    assert grounds[','] is None


def test_only_the_supervised_response_has_the_answers_ink(instruction, tokenizer):
    runs = instruction_runs(instruction, tokenizer)
    ink = runs[-1][1]
    assert [text for text, color, _ in runs if color == ink] == [runs[-1][0]]


def test_a_wrong_span_shows(instruction, tokenizer):
    before = instruction_runs(instruction, tokenizer)
    instruction.phrase_index = np.roll(instruction.phrase_index, 1)
    assert instruction_runs(instruction, tokenizer) != before


@pytest.mark.parametrize('width', [200, 600])
def test_the_panel_keeps_its_width_and_grows_downwards(instruction, tokenizer, width):
    panel = instruction_panel(instruction, tokenizer, width)
    assert panel.shape[1] == width and panel.dtype == np.uint8
    # Nothing is written over the margins.
    assert (panel[:, :4] == 255).all() and (panel[:, -4:] == 255).all()
    assert (panel < 128).any()


def test_a_list_in_parts_shows_every_part(tokenizer):
    question = TASKS.build(dict(type='PanopticTask', synonyms='max')).ask(
        words=['cat, puss', 'dog']).instruction
    tokenizer.max_length = 200
    tokenize_in_parts(question, tokenizer, 200 - tokenizer.length_of(question.prompt) + 1)
    text = ''.join(run[0] for run in instruction_runs(question, tokenizer))
    assert ' cat, puss.' in text.split('[part 2]')[0] and ' dog.' in text.split('[part 2]')[1]
