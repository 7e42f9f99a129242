# Copyright (c) mvp_mm authors. All rights reserved.
"""The plugin of reinforcement learning by overlap: gate and stage."""
from __future__ import annotations

import importlib
import json
import sys

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

from mvp_mm.engine import check_config, load_config
from mvp_mm.models.llms.sampling import Sampling
from mvp_mm.models.state import InstructionBatch
from mvp_mm.registry import MODELS
from tests.benchmark_root import ALL, enter
from tests.helpers import ROOT, make_batch, make_samples, save_tokenizer, tiny_model_config

CONFIG = ROOT / 'projects/grpo/configs/tiny.py'


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
    return save_tokenizer(tmp_path_factory.mktemp('tokenizer'))


@pytest.fixture(scope='module')
def plugin():
    """Reading the config is what loads the plugin."""
    load_config(CONFIG)
    return importlib.import_module('projects.grpo.grpo.rollouts')


def build(tokenizer, kind='GRPOMVPLM', **settings):
    torch.manual_seed(0)
    config = tiny_model_config(tokenizer, type=kind)
    if settings:
        config['grpo'] = settings
    return MODELS.build(config)


def data_of(model, tokenizer, *tasks):
    groups = [[sample for task in tasks for sample in make_samples(task, tokenizer)]]
    return model.data_preprocessor(make_batch(groups), True)


def asked(model, tokenizer):
    """Sentences, with what the model reads of them."""
    data = data_of(model, tokenizer, 'ReferringSegmentationTask')
    samples = data['data_samples']
    with torch.no_grad():
        state = model.encode(data['inputs'], samples)
    return samples, state, InstructionBatch.collate(samples, data['inputs'].device)


def test_the_config_passes_the_check(tokenizer, plugin):
    check_config(load_config(CONFIG, {'model.tokenizer.path': tokenizer}), modes=())


@pytest.mark.parametrize('settings, message', [
    (dict(reward='dice'), 'grpo.reward'), (dict(group=1), 'grpo.group'),
    (dict(weight=-1), 'grpo.weight')])
def test_a_wrong_setting_is_refused(tokenizer, plugin, settings, message):
    with pytest.raises(ValueError, match=message):
        build(tokenizer, **settings)


def test_only_sentences_with_one_target_are_sampled(tokenizer, plugin):
    samples = [*make_samples('PanopticTask', tokenizer),
               *make_samples('ReferringSegmentationTask', tokenizer)]
    assert plugin.referring_rows(samples) == list(range(1, len(samples)))
    samples[1].gt_instances = samples[1].gt_instances[:0]
    assert plugin.referring_rows(samples)[0] == 2


@torch.no_grad()
def test_a_response_read_at_once_gives_the_states_of_writing_it(tokenizer, plugin):
    model = build(tokenizer).eval()
    _, state, prompts = asked(model, tokenizer)
    model.llm.sampling = Sampling(1.0, seed=3)
    found = model.generate_then_read(state, prompts)
    _, language = model.forward_llm(state, plugin.with_responses(prompts, found.captions))
    torch.testing.assert_close(language.summary, found.summary, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(language.text, found.text, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_log_probability_is_that_of_the_sampled_tokens_alone(tokenizer, plugin):
    model = build(tokenizer).eval()
    _, state, prompts = asked(model, tokenizer)
    written = plugin.write(model, state, prompts, Sampling(0.7, seed=1))
    assert model.llm.sampling is None
    batch = plugin.with_responses(prompts, written.captions)
    hidden, _ = model.forward_llm(state, batch)
    for forced in (True, False):
        found = plugin.response_log_prob(
            model, hidden, batch.labels, [forced] * len(written.captions), 0.7)
        for row, tokens in enumerate(written.captions):
            sampled = tokens[:-len(model.ending)] if forced else tokens
            first = int(prompts.mask[row].sum())
            logits = model.llm.logits(hidden[row])[:, :model.tokenizer.vocab_size] / 0.7
            each = [logits[first + i - 1].log_softmax(0)[t] for i, t in enumerate(sampled)]
            expected = torch.stack(each).mean() if each else torch.zeros(())
            torch.testing.assert_close(found[row], expected, rtol=1e-4, atol=1e-5)


def test_a_reward_is_the_overlap_on_the_canvas(tokenizer, plugin):
    (sample, *_) = make_samples('ReferringSegmentationTask', tokenizer)
    target = sample.gt_instances.masks = torch.zeros(1, 128, 128, dtype=torch.bool)
    target[0, :64, :32] = True
    sample.gt_instances.bboxes = torch.tensor([[0., 0., 32., 64.]])
    logits = torch.full((1, 2, 32, 32), -9.0)
    logits[0, 0, :16, :16] = 9.0    # twice as wide as the target
    boxes = torch.tensor([[[0.25, 0.25, 0.5, 0.5], [0.125, 0.25, 0.25, 0.5]]])
    found = type('Found', (), dict(boxes=boxes, masks=logits))
    assert plugin.query_rewards(found, [sample], 2, 'box').tolist() == [[0.5, 1.0]]
    assert plugin.query_rewards(found, [sample], 2, 'mask')[0].tolist() == pytest.approx(
        [0.5, 0.0], abs=0.03)


def test_the_objective_raises_what_is_better_than_its_group(plugin):
    objective = importlib.import_module('projects.grpo.grpo.model').grpo_objective
    torch.manual_seed(0)
    logits = torch.zeros(1, 5, requires_grad=True)
    value = torch.tensor([0.1, 0.2, 0.9, 0.3, 0.0])
    optimizer = torch.optim.SGD([logits], lr=0.5)
    for _ in range(60):
        policy = torch.distributions.Categorical(logits=logits.expand(8, -1))
        query = policy.sample()
        optimizer.zero_grad()
        objective(policy.log_prob(query)[None], value[query][None]).backward()
        optimizer.step()
    assert logits.softmax(1)[0, 2] > 0.9
    same = torch.randn(1, 4, requires_grad=True)
    objective(same, torch.full((1, 4), 0.7)).backward()
    assert (same.grad == 0).all()


@pytest.mark.parametrize('reward', ['mask', 'box'])
def test_the_stage_trains_with_the_supervised_losses_kept(tokenizer, plugin, reward):
    model = build(tokenizer, group=3, reward=reward, max_sentences=2).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for step in range(3):
        data = data_of(model, tokenizer, 'PanopticTask', 'ReferringSegmentationTask')
        losses = model(**data, mode='loss')
        optimizer.zero_grad()
        model.parse_losses(losses)[0].backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters()
                   if p.grad is not None), step
        optimizer.step()
    plain = build(tokenizer, 'MVPLM')(**data, mode='loss')
    assert set(losses) - set(plain) == {'loss_grpo', 'grpo_reward', 'grpo_gap'}
    assert 0 <= losses['grpo_reward'] <= 1 and losses['grpo_gap'] >= 0


def test_its_gradient_reaches_the_llm_and_the_heads_but_not_the_encoder(tokenizer, plugin):
    model = build(tokenizer, group=6).train()
    data = data_of(model, tokenizer, 'ReferringSegmentationTask')
    log_prob, reward = model.sample_answers(
        data['inputs'], data['data_samples'], list(range(len(data['data_samples']))))
    assert log_prob.shape == reward.shape == (3, 6)
    log_prob.sum().backward()
    touched = {name.split('.')[0] for name, p in model.named_parameters()
               if p.grad is not None and np.abs(p.grad.numpy()).sum() > 0}
    assert touched == {'llm', 'perception'}


@pytest.mark.parametrize('settings, tasks', [
    (dict(weight=0), ['ReferringSegmentationTask']), (dict(weight=1), ['PanopticTask'])])
def test_without_weight_or_sentences_nothing_is_sampled(tokenizer, plugin, settings, tasks):
    model = build(tokenizer, **settings).train()
    model.sample_answers = None    # would raise
    losses = model(**data_of(model, tokenizer, *tasks), mode='loss')
    assert losses['loss_grpo'] == 0 and losses['grpo_reward'] == 0


def test_the_gate_compares_the_best_of_a_group_with_its_mean(tmp_path, monkeypatch):
    enter(tmp_path, monkeypatch)
    monkeypatch.syspath_prepend(str(ROOT))
    tool = importlib.import_module('projects.grpo.measure_gate')
    monkeypatch.setattr(sys, 'argv', [
        'measure_gate', str(ALL), 'model.pth', '--dataset', 'refcoco_val', '--images', '2',
        '--group', '3', '--temperatures', '5', '--out', 'gate.json'])
    level = MMLogger.get_current_instance().level
    try:
        tool.main()
    finally:
        MMLogger.get_current_instance().setLevel(level)
        DefaultScope._instance_dict.clear()
    found = json.loads((tmp_path / 'gate.json').read_text())['figures']
    assert found['sentences'] > 0 and 1 <= found['T5.0']['different_responses'] <= 3
    for kind in ('mask', 'box'):
        for way in ('response', 'query', 'both'):
            values = found['T5.0'][kind][way]
            assert values['gap'] == pytest.approx(values['best'] - values['mean'], abs=2e-4)
            assert values['gap'] >= 0
    assert found['T5.0']['mask']['query']['gap'] > 0    # random weights choose differently
