# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import numpy as np
import pytest

from mvp_mm.registry import TASKS, TOKENIZERS
from mvp_mm.structures import ImageAnnotation
from mvp_mm.tokenization.fit_to_context import fit_word_list
from tests.test_datasets.small_data import tokenizer_config

NAMES = tuple(f'kind {letter * 4}' for letter in 'abcdefghij')


def tokenizer(path, max_length):
    return TOKENIZERS.build(dict(tokenizer_config(path), max_length=max_length))


def word_request(present, seed=0):
    """A detection list of all names, with two objects of each present one."""
    labels = np.repeat(np.array(present, dtype=np.int64), 2)
    annotation = ImageAnnotation(
        'here', vocabulary=NAMES, vocabulary_is_thing=np.arange(10) % 2 == 0, labels=labels,
        crowd=np.zeros(len(labels), dtype=bool), captions=['A cat sits.'])
    task = TASKS.build(dict(type='PanopticTask'))
    return task.instruct(annotation, np.random.default_rng(seed), True)[0]


def named(request):
    """Targets with the name of their phrase."""
    return sorted(zip(request.targets.tolist(),
                      [request.instruction.phrases[i] for i in request.labels], strict=True))


def full_length(request, path):
    return len(tokenizer(path, 10_000).tokenize(request.instruction).input_ids)


def test_a_list_that_fits_is_left_alone(tmp_path):
    request = word_request([1, 4])
    limit = full_length(request, tmp_path)
    assert fit_word_list(request, tokenizer(tmp_path, limit)) == [request]


@pytest.mark.parametrize('missing', [1, 30, 60])
def test_absent_names_give_way_and_present_ones_stay(tmp_path, missing):
    request = word_request([1, 4])
    limit = full_length(request, tmp_path) - missing
    fitting, = fit_word_list(request, tokenizer(tmp_path, limit))
    length = len(tokenizer(tmp_path, limit).tokenize(fitting.instruction).input_ids)
    assert len(fitting.instruction.phrases) < 10
    assert named(fitting) == named(request)
    # One more name would not have fitted.
    assert limit - len(' kind aaaa,') < length <= limit


def test_phrases_keep_their_order_and_their_kind(tmp_path):
    request = word_request([1, 4])
    fitting, = fit_word_list(request, tokenizer(tmp_path, full_length(request, tmp_path) - 40))
    before, after = request.instruction, fitting.instruction
    kept = [p for p in before.phrases if p in after.phrases]
    assert after.phrases == kept
    assert [s.text for s in after.prompt if s.kind.value == 'phrase'] == kept
    assert after.is_thing.tolist() == [NAMES.index(p) % 2 == 0 for p in kept]
    assert after.prompt[0] == before.prompt[0] and after.prompt[-2:] == before.prompt[-2:]


def test_present_names_that_do_not_fit_together_are_split(tmp_path):
    request = word_request(range(10))
    limit = full_length(request, tmp_path) - 50
    parts = fit_word_list(request, tokenizer(tmp_path, limit))
    assert len(parts) == 2
    assert sorted(sum((named(p) for p in parts), [])) == named(request)
    assert all(p.instruction.response == request.instruction.response for p in parts)
    for part in parts:
        tokenizer(tmp_path, limit).tokenize(part.instruction)


def test_one_phrase_that_cannot_fit_is_refused(tmp_path):
    request = word_request([3])
    limit = full_length(request, tmp_path) - 10 * len(' kind aaaa,') + 5
    with pytest.raises(ValueError, match='panoptic.*no room for a phrase of 10 tokens'):
        fit_word_list(request, tokenizer(tmp_path, limit))


def test_the_request_itself_is_not_changed(tmp_path):
    request = word_request([1, 4])
    prompt, phrases = list(request.instruction.prompt), list(request.instruction.phrases)
    fit_word_list(request, tokenizer(tmp_path, full_length(request, tmp_path) - 40))
    assert request.instruction.prompt == prompt and request.instruction.phrases == phrases
