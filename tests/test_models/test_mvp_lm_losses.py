# Copyright (c) mvp_mm authors. All rights reserved.
"""The whole model's losses: which there are, and what they do not depend on."""
from __future__ import annotations

import copy
import itertools

import pytest
import torch

from tests.helpers import build_model
from tests.test_models.mvp_lm_runs import SENTENCES, TASK_NAMES, WORDS, perturb, prepare

MAIN = ('loss_word', 'loss_sent', 'loss_rank', 'loss_box_l1', 'loss_box_giou', 'loss_mask_bce',
        'loss_mask_dice')


def supervised_names(selection=True, denoising=True):
    prefixes = [*['enc.'] * selection, 'd0.', 'd1.', '']
    names = {f'{p}{n}' for p, n in itertools.product(prefixes, MAIN)}
    if denoising:
        restored = [n for n in MAIN if n not in ('loss_sent', 'loss_rank')]
        names |= {f'denoise.d{i}.{n}' for i, n in itertools.product(range(2), restored)}
    return names | {'loss_llm'}


@pytest.mark.parametrize('task', TASK_NAMES)
@pytest.mark.parametrize('empty', [False, True])
def test_losses_of_every_task(training_model, samples, task, empty):
    found = samples(task)
    if empty:
        for sample in found:
            sample.gt_instances = sample.gt_instances[:0]
    losses = training_model(**prepare(training_model, [found], True), mode='loss')
    assert {n for n in losses if 'loss' in n} == supervised_names()
    assert all(value.isfinite() for value in losses.values())
    assert losses['loss_llm'] > 0
    assert (losses['loss_word'] > 0) == (task in WORDS)
    assert (losses['loss_sent'] > 0) == (task in SENTENCES)
    has_targets = task != 'CaptionTask' and not empty
    for name in ('loss_box_l1', 'loss_box_giou', 'loss_mask_bce', 'loss_mask_dice'):
        assert (losses[name] > 0) == has_targets, name
        assert (losses[f'denoise.d0.{name}'] > 0) == (has_targets and task in WORDS), name


def test_an_image_without_objects(training_model, samples):
    found = samples('PanopticTask', 'DetectionTask', num_objects=0)
    losses = training_model(**prepare(training_model, [found], True), mode='loss')
    assert all(value.isfinite() for value in losses.values())
    assert losses['loss_box_l1'] == 0 and losses['loss_word'] > 0


@pytest.mark.parametrize('task', ['DetectionTask', 'ReferringComprehensionTask'])
def test_box_only_targets_have_no_mask_losses(training_model, samples, task):
    data = prepare(training_model, [samples(task, with_masks=False)], True)
    losses = training_model(**data, mode='loss')
    assert all(value == 0 for name, value in losses.items() if 'loss_mask' in name)
    assert losses['loss_box_l1'] > 0 and losses['loss_box_giou'] > 0


def test_losses_have_no_selection_set_where_nothing_is_selected(tokenizer_path, samples):
    model = build_model(tokenizer_path, perception=dict(
        denoising=None, query_generator=dict(type='LearnableQueryGenerator')))
    losses = model(**prepare(model, [samples('PanopticTask')], True), mode='loss')
    assert {n for n in losses if 'loss' in n} == supervised_names(False, False)


def test_denoising_does_not_change_the_other_losses(training_model, tokenizer_path, samples):
    groups = [samples('PanopticTask', 'ReferringSegmentationTask'), samples('DetectionTask')]
    model = build_model(tokenizer_path, perception=dict(denoising=None))
    model.load_state_dict(training_model.state_dict(), strict=False)
    with torch.no_grad():
        plain = model(**prepare(model, groups, True), mode='loss')
        noised = training_model(**prepare(training_model, groups, True), mode='loss')
    for name, value in plain.items():
        torch.testing.assert_close(noised[name], value, atol=1e-5, rtol=1e-4)


def test_stuff_targets_do_not_change_the_denoising_losses(tokenizer_path, samples):
    model = perturb(build_model(
        tokenizer_path, perception=dict(denoising=dict(label_noise=0.0, box_noise=0.0))))
    found = samples('PanopticTask', num_objects=6, seed=3)
    is_stuff = ~torch.from_numpy(found[0].instruction.is_thing)[found[0].gt_instances.labels]
    assert is_stuff.any() and not is_stuff.all()
    bare = copy.deepcopy(found)
    bare[0].gt_instances = bare[0].gt_instances[~is_stuff]
    with torch.no_grad():
        losses, expected = (model(**prepare(model, [g], True), mode='loss')
                            for g in (found, bare))
    names = [n for n in losses if n.startswith('denoise.')]
    assert len(names) == 10
    for name in names:
        torch.testing.assert_close(losses[name], expected[name], atol=1e-5, rtol=1e-4)


def test_a_batch_s_losses_can_be_averages_over_tokens_and_targets(model, samples, monkeypatch):
    monkeypatch.setattr(model.perception.criterion, 'normalization', 'targets')
    groups = [samples('PanopticTask', num_objects=4), samples('PanopticTask', num_objects=2,
                                                             seed=1)]
    with torch.no_grad():
        together = model(**prepare(model, groups, True), mode='loss')
        singles = [model(**prepare(model, [group], True, images=[0]), mode='loss')
                   for group in groups[:1]]
        singles.append(model(**prepare(model, [[], groups[1]], True), mode='loss'))
    tokens = [sum(int((s.instruction.labels[1:] != -100).sum()) for s in g) for g in groups]
    targets = [len(s.gt_instances) for s, in groups]
    assert targets == [4, 2]
    for name, counts in (('loss_llm', tokens), ('loss_box_l1', targets),
                         ('d0.loss_mask_bce', targets)):
        expected = sum(c * s[name] for c, s in zip(counts, singles, strict=True)) / sum(counts)
        torch.testing.assert_close(together[name], expected, atol=1e-4, rtol=1e-4)


def test_captions_beside_other_tasks_change_only_the_language_loss(model, samples):
    with torch.no_grad():
        alone = model(**prepare(model, [samples('PanopticTask')], True), mode='loss')
        mixed = model(**prepare(model, [samples('CaptionTask', 'PanopticTask')], True),
                      mode='loss')
    for name, value in alone.items():
        if name != 'loss_llm':
            torch.testing.assert_close(mixed[name], value, atol=1e-4, rtol=1e-4)
    assert abs(mixed['loss_llm'] - alone['loss_llm']) > 1e-5
