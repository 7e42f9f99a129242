# Copyright (c) mvp_mm authors. All rights reserved.
"""Word lists in parts: against one pass, and against plain loops."""
from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from mvp_mm.models.state import InstructionBatch
from mvp_mm.structures import VocabularyPart
from mvp_mm.tasks.decoding import word_probabilities
from mvp_mm.tokenization.split_to_context import tokenize_in_parts
from tests.helpers import build_model, make_batch, make_samples


class KeepRaw:
    """Stands in for a task and keeps the raw prediction."""

    def decode(self, raw, sample):
        sample.set_field(raw, 'raw')


@pytest.fixture(scope='module')
def model(tokenizer_path):
    return build_model(tokenizer_path).eval()


@pytest.fixture
def sample(tokenizer_path):
    """Of a panoptic question about circle, square, star and grass."""
    def make(task='PanopticTask', **task_args):
        made, = make_samples(task, tokenizer_path, training=False, **task_args)
        made.task_object = KeepRaw()
        return made
    return make


def in_parts(model, sample, groups):
    """A copy of the sample that asks the groups of phrases in a run each."""
    divided = copy.deepcopy(sample)
    whole = divided.instruction
    whole.parts = []
    for group in groups:
        part = copy.deepcopy(whole)
        part.parts, part.classes = [], None
        places = [i for i, s in enumerate(whole.prompt) if s.kind.value == 'phrase']
        middle = []
        for k in group:
            middle += ([whole.prompt[places[0] + 1]] if middle else []) + [whole.prompt[places[k]]]
        part.prompt = whole.prompt[:places[0]] + middle + whole.prompt[places[-1] + 1:]
        part.phrases = [whole.phrases[k] for k in group]
        part.is_thing = whole.is_thing[group]
        model.tokenizer.tokenize(part)
        whole.parts.append(VocabularyPart(part, np.array(group)))
    return divided


def raws(model, *samples):
    data = model.data_preprocessor(make_batch([list(samples)]), False)
    return [s.raw for s in model(**data, mode='predict')]


def assert_same(first, second):
    for name in ('logits', 'boxes', 'mask_logits'):
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    assert (first.num_dynamic, first.caption) == (second.num_dynamic, second.caption)


@pytest.mark.parametrize('task', ['PanopticTask', 'DetectionTask'])
@pytest.mark.parametrize('thinking', [True, False])
def test_one_part_is_the_plain_path_exactly(model, sample, monkeypatch, task, thinking):
    monkeypatch.setattr(model, 'thinking', thinking)
    plain = sample(task)
    divided = in_parts(model, plain, [list(range(len(plain.instruction.phrases)))])
    assert_same(raws(model, plain)[0], raws(model, divided)[0])


def expected_probabilities(model, divided):
    """Each query of each part by itself, with plain loops over queries and phrases."""
    data = model.data_preprocessor(make_batch([[divided]]), False)
    whole = divided.instruction
    rows = []
    for part in whole.parts:
        row = copy.deepcopy(data['data_samples'][0])
        row.instruction = part.instruction
        rows.append(row)
    state = model.encode(data['inputs'], rows)
    batch = InstructionBatch.collate(rows, torch.device('cpu'))
    language = model.generate_then_read(state, batch)
    found = model.perception.decode(state, batch, language.text, language.summary)
    head, number = model.perception.similarity_head, model.perception.num_queries
    units = torch.nn.functional.normalize
    names = [(int(k), units(found.text.content[r, column], dim=0))
             for r, part in enumerate(whole.parts) for column, k in enumerate(part.classes)]
    # Dynamic queries of every part answer for their part, the first part's stuff queries for all.
    asked = [(r, q, part.classes) for r, part in enumerate(whole.parts) for q in range(number)]
    if whole.use_stuff_queries:
        everything = range(len(whole.phrases))
        asked += [(0, q, everything) for q in range(number, found.states.shape[1])]
    result = []
    for r, q, answers in asked:
        visual = head.embed(found.states[r, q])
        best = {}
        for k, name in names:
            score = float(head.scale * visual @ name)
            best[k] = max(best.get(k, score), score)
        nothing = float(head.scale * visual @ units(head.no_object, dim=0))
        total = sum(np.exp(list(best.values()))) + np.exp(nothing)
        result.append([np.exp(best[k]) / total if k in answers else 0
                       for k in range(len(whole.phrases))])
    return np.array(result)


@pytest.mark.parametrize('task', ['PanopticTask', 'InstanceTask'])
def test_parts_are_scored_over_the_whole_list(model, sample, task):
    plain = sample(task)
    last = len(plain.instruction.phrases) - 1
    divided = in_parts(model, plain, [list(range(last)), [last]])
    with torch.no_grad():
        expected = expected_probabilities(model, divided)
    raw, = raws(model, divided)
    found = word_probabilities(raw, divided)
    np.testing.assert_allclose(found[:, :-1].numpy(), expected, atol=1e-5)
    torch.testing.assert_close(found.sum(1), torch.ones(len(found)))


def test_boxes_and_masks_are_those_of_the_parts_asked_alone(model, sample):
    divided = in_parts(model, sample(), [[0, 3], [1, 2]])
    raw, = raws(model, divided)
    alone = []
    for part in divided.instruction.parts:
        lone = copy.deepcopy(divided)
        lone.instruction = part.instruction
        alone += raws(model, lone)
    n = model.perception.num_queries
    for name in ('boxes', 'mask_logits'):
        values = [getattr(r, name) for r in alone]
        expected = torch.cat([v[:n] for v in values] + [values[0][n:]])
        torch.testing.assert_close(getattr(raw, name), expected, atol=1e-4, rtol=1e-4)
    assert raw.num_dynamic == 2 * n


def test_a_class_is_as_likely_as_its_best_name(model, sample):
    divided = in_parts(model, sample('InstanceTask'), [[0, 1, 2]])
    whole = divided.instruction
    spread, = raws(model, divided)
    # The same three names, now as two of the first class and one of the second.
    whole.phrases, whole.is_thing = ['circle, square', 'star'], np.ones(2, dtype=bool)
    whole.parts[0].classes = np.array([0, 0, 1])
    joined, = raws(model, divided)
    expected = torch.stack([spread.logits[:, :2].amax(1), *spread.logits[:, 2:].unbind(1)], 1)
    assert torch.equal(joined.logits, expected)


def test_lists_in_parts_share_a_batch_with_others(model, sample, tokenizer_path):
    sentence = make_samples('ReferringSegmentationTask', tokenizer_path, training=False)[0]
    sentence.task_object = KeepRaw()
    divided = in_parts(model, sample(), [[0], [1, 2, 3]])
    together = raws(model, sample(), divided, sentence)
    alone = [raws(model, s)[0] for s in (sample(), divided, sentence)]
    for first, second in zip(together, alone, strict=True):
        assert first.num_dynamic == second.num_dynamic
        torch.testing.assert_close(first.logits, second.logits, atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(first.mask_logits, second.mask_logits, atol=1e-3, rtol=1e-4)


def test_the_image_is_encoded_once(model, sample, monkeypatch):
    seen = []
    encode = model.encode
    monkeypatch.setattr(model, 'encode', lambda images, *a, **k: (
        seen.append(len(images)), encode(images, *a, **k))[1])
    raws(model, in_parts(model, sample(), [[0], [1], [2], [3]]))
    assert seen == [1]


def test_all_the_names_of_lvis_flow_through_the_model(model, tokenizer_path):
    """As many names as LVIS has: tokenised in parts, scored together, decoded."""
    sample, = make_samples('InstanceTask', tokenizer_path, training=False, max_instances=50)
    task = sample.task_object
    names = [f'star {number}' for number in range(1203)]
    sample.instruction = task.ask(words=names).instruction
    tokenize_in_parts(sample.instruction, model.tokenizer, model.max_response_tokens)
    parts = sample.instruction.parts
    assert len(parts) > 5
    data = model.data_preprocessor(make_batch([[sample]]), False)
    answered, = model(**data, mode='predict')
    found = answered.pred_instances
    assert len(found) == 50 and found.masks.shape[1:] == (128, 128)
    assert torch.equal(found.scores, found.scores.sort(descending=True).values)
    assert len({int(np.flatnonzero([k in p.classes for p in parts])[0])
                for k in found.labels.tolist()}) > 1


def test_a_question_without_room_for_its_response_is_refused(model, sample, monkeypatch):
    monkeypatch.setattr(model, 'max_response_tokens', 250)
    with pytest.raises(ValueError, match='response of up to 250 exceed the LLM.s 256 pos'):
        raws(model, sample())
