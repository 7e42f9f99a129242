# Copyright (c) mvp_mm authors. All rights reserved.
"""The released parts in a model of their own: every task trains and is answered."""
from __future__ import annotations

import copy

import pytest
import torch
from mmengine.config import Config

from mvp_mm.models.released.heads import split_background
from mvp_mm.models.state import InstructionBatch
from mvp_mm.registry import MODELS, TASKS, TOKENIZERS
from tests.helpers import CANVAS, ROOT, make_batch, make_samples, tiny_model_config

WORDS = ('ReleasedPanopticTask', 'SemanticTask', 'InstanceTask', 'PhraseGroundingTask')
SENTENCES = ('ReleasedReferringTask', 'ReleasedGeneralizedReferringTask')


def released_config(tokenizer_path):
    """The released parts over a tiny model."""
    parts = Config.fromfile(ROOT / 'configs/_base_/models/released.py')._released
    config = Config(dict(model=tiny_model_config(tokenizer_path)))
    config.merge_from_dict(dict(model=parts.to_dict()))
    config.merge_from_dict(dict(model=dict(
        connector=dict(planes=16), llm=dict(kept_layers=(0, 1, 2)),
        perception=dict(denoising=dict(num_queries=8)))))
    return config.model.to_dict()


@pytest.fixture(scope='module')
def model(tokenizer_path):
    torch.manual_seed(0)
    return MODELS.build(released_config(tokenizer_path))


@pytest.fixture(scope='module')
def tokenizer(tokenizer_path):
    return TOKENIZERS.build(dict(
        type='ReleasedTokenizer', path=tokenizer_path, num_visual_tokens=4, max_length=256))


@pytest.fixture
def samples(tokenizer):
    """``samples(*tasks)``: the tasks' samples of one image, with released tokens."""
    def make(*tasks, training=True, **args):
        found = []
        for task in tasks:
            for sample in make_samples(task, tokenizer.path, training=training, **args):
                tokenizer.tokenize(sample.instruction)
                found.append(sample)
        return found
    return make


def run(model, groups, training):
    data = model.data_preprocessor(make_batch(groups), training)
    return model.train(training)(**data, mode='loss' if training else 'predict')


@pytest.mark.parametrize('tasks', [WORDS, SENTENCES, WORDS + SENTENCES],
                         ids=['words', 'sentences', 'both'])
def test_whatever_is_asked_every_parameter_has_a_gradient(model, samples, tasks):
    model.zero_grad(set_to_none=True)
    losses = run(model, [samples(*tasks), samples(*tasks, seed=1)], True)
    total = model.parse_losses(losses)[0]
    total.backward()
    assert torch.isfinite(total)
    # The same names in every process, whatever its batch holds.
    assert sum(name.startswith('denoise.') for name in losses) == 5 * 3
    assert (losses['denoise.d0.loss_word'] > 0) == (tasks != SENTENCES)
    idle = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_every_task_is_answered(model, samples):
    asked = samples(*WORDS, *SENTENCES, training=False)
    answered = run(model, [asked], False)
    assert answered[0].pred_panoptic_seg['panoptic'].shape == (CANVAS, CANVAS)
    assert answered[1].pred_sem_seg.max() < 4
    for sample in answered[2:4]:
        # No answer is the background.
        assert sample.pred_instances.labels.max() < len(sample.instruction.phrases) - 1
    assert all(len(sample.pred_instances) for sample in answered[4:])


def test_lists_of_different_length_do_not_touch_each_other(model, samples):
    together = samples('ReleasedPanopticTask', 'ReleasedReferringTask')
    batch = make_batch([together])
    data = model.eval().data_preprocessor(batch, False)
    with torch.no_grad():
        logits, boxes, _ = model(**data, mode='tensor')
        alone = copy.copy(data)
        alone['data_samples'] = data['data_samples'][1:]
        expected, expected_boxes, _ = model(**alone, mode='tensor')
    queries = expected_boxes.shape[1]
    torch.testing.assert_close(logits[1:, :queries, 0], expected[..., 0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(boxes[1:, :queries], expected_boxes, rtol=1e-4, atol=1e-4)


def test_the_background_is_the_last_phrase_of_a_word_list_alone():
    mask = torch.tensor([[True, True, True], [True, True, False], [True, False, False]])
    names, last = split_background(mask, torch.tensor([True, True, False]))
    assert names.tolist() == [[True, True, False], [True, False, False], [True, False, False]]
    assert last.tolist() == [2, 1, 0]


def test_phrases_close_with_a_token_and_lists_with_the_background(tokenizer, samples):
    words, sentence = samples('ReleasedPanopticTask', 'ReleasedReferringTask',
                              training=False)[:2]
    closing = tokenizer.tokenizer.convert_tokens_to_ids('[SEG]')
    found = words.instruction
    assert found.phrases[-2:] == ['grass', 'background'] and not found.is_thing[-1]
    for phrase in range(len(found.phrases)):
        span = found.input_ids[found.phrase_index == phrase]
        assert span[-1] == closing and tokenizer.decode(span) == f' {found.phrases[phrase]}'
    span = sentence.instruction.input_ids[sentence.instruction.phrase_index == 0]
    assert len(sentence.instruction.phrases) == 1 and span[-1] == closing


def test_a_list_that_fits_only_without_its_background_is_refused(tokenizer, samples):
    short = samples('ReleasedPanopticTask', training=False)[0].instruction
    limited = TOKENIZERS.build(dict(
        type='ReleasedTokenizer', path=tokenizer.path, num_visual_tokens=4,
        max_length=len(short.input_ids) - 1))
    plain = make_samples('ReleasedPanopticTask', tokenizer.path, training=False)[0].instruction
    before = copy.deepcopy(plain)
    with pytest.raises(ValueError, match='exceed max_length'):
        limited.tokenize(plain)
    assert plain.phrases == before.phrases
    assert limited.length_of(plain.prompt) > limited.max_length


def test_the_summary_token_is_a_place_of_zeros(model, samples):
    sample, = samples('ReleasedPanopticTask')
    sample.set_metainfo(dict(image_index=0))
    batch = InstructionBatch.collate([sample], torch.device('cpu'), model.per_id)
    state = model.encode(torch.randn(1, 3, CANVAS, CANVAS), [sample])
    embeds = model.embed_inputs(state, batch)
    silent = (embeds == 0).all(-1)[0].nonzero()[:, 0].tolist()
    # The image's placeholders are the same token, but hold the image.
    start = sample.instruction.image_start
    places = (batch.ids[0] == model.per_id).nonzero()[:, 0].tolist()
    assert silent == [p for p in places if not start <= p < start + 4] != []


@pytest.mark.parametrize('change, message', [
    (dict(llm=dict(kept_layers=(-1, ))), r'needs llm.kept_layers=\(0, 1, 2\), got \(-1,\)'),
    (dict(tokenizer=dict(type='InstructionTokenizer')), 'needs ReleasedTokenizer'),
    (dict(perception=dict(decoder=dict(type='MultiGranularityDecoder'))),
     'cannot work with decoder=MultiGranularityDecoder'),
    (dict(perception=dict(query_generator=dict(type='VisualQueryGenerator'))),
     'cannot work with query_generator=VisualQueryGenerator')],
    ids=['layers', 'tokenizer', 'decoder', 'queries'])
def test_parts_that_would_silently_misbehave_are_refused(tokenizer_path, change, message):
    config = Config(dict(model=released_config(tokenizer_path)))
    config.merge_from_dict(dict(model=change))
    with pytest.raises(ValueError, match=message):
        MODELS.build(config.model.to_dict())


def test_released_queries_outside_the_released_head_are_refused(tokenizer_path, samples):
    config = tiny_model_config(
        tokenizer_path, perception=dict(query_generator=dict(type='ReleasedQueryGenerator')))
    with pytest.raises(TypeError, match='inside ReleasedPerceptionHead alone'):
        run(MODELS.build(config), [samples('ReleasedPanopticTask', training=False)], False)


def test_dinos_decoder_serves_the_core_model_too(tokenizer_path):
    model = MODELS.build(
        tiny_model_config(tokenizer_path, perception=dict(decoder=dict(type='DINODecoder'))))
    data = model.data_preprocessor(make_batch([make_samples('PanopticTask', tokenizer_path)]))
    total = model.parse_losses(model(**data, mode='loss'))[0]
    total.backward()
    assert torch.isfinite(total)
    assert not [n for n, p in model.perception.named_parameters() if p.grad is None]


def test_word_lists_in_parts_are_refused(model, samples):
    asked = samples('ReleasedPanopticTask', training=False)
    asked[0].instruction.parts = [None, None]
    with pytest.raises(ValueError, match='cannot ask it in parts'):
        run(model, [asked], False)


def test_a_task_that_always_answers_takes_no_presence_threshold():
    with pytest.raises(ValueError, match='always answers'):
        TASKS.build(dict(type='ReleasedGeneralizedReferringTask', presence_thr=0.6))
