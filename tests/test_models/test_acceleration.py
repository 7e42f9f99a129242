# Copyright (c) mvp_mm authors. All rights reserved.
"""Accelerated models answer as plain ones do; without CUDA, graphs are replayed by the host."""
from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch

from mvp_mm.analysis.synthetic_batch import make_samples as make_random_samples
from mvp_mm.analysis.training_step import NARROW, MadeUpStep
from mvp_mm.engine import AccelerationHook, acceleration
from mvp_mm.engine.config_loading import load_config
from mvp_mm.models.acceleration import (
    CapturedFunction,
    CapturedRunner,
    accelerate_answers,
    accelerate_training,
)
from mvp_mm.models.image_prefix import ImagePrefixes
from mvp_mm.models.llms import CausalLM
from tests.helpers import CANVAS, ROOT, build_model, make_samples
from tests.test_models.llms import MODELS, SIZES, make_prompts, small_llm

TASKS = ['PanopticTask', 'ReferringSegmentationTask', 'DetectionTask']


@pytest.fixture(scope='module')
def plain(tokenizer_path):
    torch.manual_seed(0)
    model = build_model(tokenizer_path, max_response_tokens=24, perception=dict(
        similarity_head=dict(relation=True, surroundings=4))).eval()
    # Zero at the start: graphs could leave it out unseen.
    torch.nn.init.normal_(model.perception.surroundings_text[-1].weight)
    return model


@pytest.fixture(scope='module')
def fast(plain):
    model = copy.deepcopy(plain)
    accelerate_answers(model, graphs=True)
    return model


def questions(tokenizer_path, seed):
    groups = [make_samples(task, tokenizer_path, seed=seed, training=False) for task in TASKS]
    for index, group in enumerate(groups):
        for sample in group:
            sample.set_metainfo(dict(image_index=index % 2))
    return [sample for group in groups for sample in group]


def assert_same_answers(ours, theirs, **tolerance):
    for a, b in zip(ours, theirs, strict=True):
        assert a.pred_caption == b.pred_caption
        for key in ('bboxes', 'scores'):
            torch.testing.assert_close(a.pred_instances[key], b.pred_instances[key], **tolerance)


@pytest.mark.parametrize('thinking', [False, True])
def test_accelerated_answers_are_those_of_the_plain_model(plain, fast, tokenizer_path, thinking):
    for seed in range(3):
        images = torch.randn(2, 3, CANVAS, CANVAS)
        ours = fast.predict(images, questions(tokenizer_path, seed), thinking=thinking)
        theirs = plain.predict(images, questions(tokenizer_path, seed), thinking=thinking)
        assert_same_answers(ours, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize('thinking', [False, True])
def test_a_kept_image_is_asked_again_through_graphs(plain, fast, tokenizer_path, thinking):
    image = torch.randn(1, 3, CANVAS, CANVAS)

    def ask(model, state, seed):
        samples = make_samples('ReferringSegmentationTask', tokenizer_path, seed=seed,
                               training=False)
        for sample in samples:
            sample.set_metainfo(dict(image_index=0))
        return model.predict(None, samples, thinking=thinking, state=state)

    states = []
    for model in (fast, plain):
        with torch.no_grad():
            states.append(model.encode(image, []))
        states[-1].prefixes = ImagePrefixes()
    for seed in range(3):
        assert_same_answers(ask(fast, states[0], seed), ask(plain, states[1], seed),
                            rtol=1e-4, atol=1e-3)


def test_later_images_leave_kept_states_as_they_are(fast):
    with torch.no_grad():
        state = fast.encode(torch.randn(1, 3, CANVAS, CANVAS), [])
        before = state.memory.clone()
        fast.encode(torch.randn(1, 3, CANVAS, CANVAS), [])
    assert torch.equal(state.memory, before)


@pytest.mark.parametrize('family', sorted(MODELS))
def test_a_fixed_cache_writes_what_a_growing_cache_writes(family):
    torch.manual_seed(0)
    llm = CausalLM({**SIZES, **MODELS[family], 'initializer_range': 0.3}).eval()
    ends = [[7, 8], [9, 8], [8]]
    prompts = [make_prompts() for _ in range(2)]
    plain = [llm.generate(*prompt, ends, 20) for prompt in prompts]
    llm.runner = CapturedRunner(llm)
    for prompt, theirs in zip(prompts, plain, strict=True):
        ours = llm.generate(*prompt, ends, 20)
        assert torch.equal(ours.tokens, theirs.tokens)
        torch.testing.assert_close(ours.summary, theirs.summary, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.prompt_states, theirs.prompt_states, rtol=1e-4, atol=1e-4)


def test_two_texts_at_once_do_not_share_a_cache():
    llm = small_llm()
    llm.runner = CapturedRunner(llm)
    (embeds, mask), (others, _) = make_prompts(), make_prompts()
    first = llm.runner.start(embeds, mask, None, 20)
    token, position = torch.tensor([1, 2, 3]), mask.sum(1)
    seen = torch.ones(3, dtype=torch.bool)
    with torch.no_grad():
        alone = first.append(token, position, seen).clone()
        again = llm.runner.start(embeds, mask, None, 20)
        llm.runner.start(others, mask, None, 20).append(token, position, seen)
        beside = again.append(token, position, seen).clone()
    torch.testing.assert_close(alone, beside)


def test_answers_in_bfloat16_weights_stay_near(plain, tokenizer_path):
    model = copy.deepcopy(plain)
    accelerate_answers(model, torch.bfloat16, graphs=False)
    images, samples = torch.randn(1, 3, CANVAS, CANVAS), []
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        ours, theirs = (m.encode(images, samples).memory.float() for m in (model, plain))
    assert (ours - theirs).norm() / theirs.norm() < 0.02
    weights = {p.dtype for part in (model.encoder, model.llm) for p in part.parameters()}
    assert weights == {torch.bfloat16}


def test_a_signature_is_recorded_once_and_not_beyond_the_most():
    calls = []

    def double(x, scale):
        calls.append(x.shape)
        return dict(value=x * scale)

    captured = CapturedFunction(double, most=1)
    with torch.no_grad():
        for value in (1.0, 5.0):
            found = captured(torch.full((2,), value), 2)
            assert found['value'].tolist() == [2 * value] * 2
        assert captured(torch.ones(3), 2)['value'].tolist() == [2.0] * 3
    assert len(captured.recordings) == 1


def test_a_gradient_is_computed_by_the_plain_function():
    x = torch.ones(2, requires_grad=True)
    CapturedFunction(lambda value: value * 3)(x).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_a_model_in_training_is_refused(tokenizer_path):
    with pytest.raises(ValueError, match='eval'):
        accelerate_answers(build_model(tokenizer_path).train())


@pytest.fixture(scope='module')
def step():
    """A stage-2 step of two layers each, narrow."""
    cfg = load_config(ROOT / 'configs/mvplm/stage2.py')
    cfg.merge_from_dict({
        **NARROW, 'model.llm.config.num_hidden_layers': 2, 'model.pixel_decoder.num_layers': 2,
        'model.perception.decoder.num_layers': 2, 'model.encoder.backbone.depths': (1, 1, 1, 1)})
    return MadeUpStep.build(cfg, images=2, sentences=2, words=20, dtype=None)


def test_compiled_regions_give_the_same_gradients_for_all_lengths(step):
    def gradients():
        torch.manual_seed(0)
        step.model.zero_grad()
        step.loss().backward()
        return {n: p.grad.clone() for n, p in step.model.named_parameters() if p.grad is not None}

    before = gradients()
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    accelerate_training(step.model, ('llm', 'pixel_decoder'), tf32=False, backend='eager')
    after = gradients()
    assert before.keys() == after.keys()
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=1e-5, atol=1e-6)
    found = torch._dynamo.utils.counters
    graphs = found['stats']['unique_graphs']
    step.samples = make_random_samples(2, 3, 256, 16, 2000, 40)
    step.loss().backward()
    assert not found['graph_break'] and found['stats']['unique_graphs'] == graphs


def test_an_unknown_region_is_refused(step):
    with pytest.raises(ValueError, match="compile must be one of 'llm'"):
        accelerate_training(step.model, ('lllm',))


def test_the_hook_accelerates_the_model_within_its_wrapper(step, monkeypatch):
    asked = []
    monkeypatch.setattr(acceleration, 'accelerate_training', lambda *args: asked.append(args))
    AccelerationHook(compile=['llm'], tf32=False).before_train(SimpleNamespace(model=step.model))
    assert asked == [(step.model, ('llm',), True, False)]
