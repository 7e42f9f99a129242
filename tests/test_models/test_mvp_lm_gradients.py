# Copyright (c) mvp_mm authors. All rights reserved.
"""Which parameters a batch moves, and which parts train."""
from __future__ import annotations

import pytest

from tests.helpers import build_model
from tests.test_models.mvp_lm_runs import prepare, total

GRADIENT_MIXES = {
    'panoptic': (dict(tasks=['PanopticTask']), ),
    'sentences': (dict(tasks=['ReferringSegmentationTask']), ),
    'boxes': (dict(tasks=['DetectionTask'], with_masks=False), ),
    'sentences with boxes': (dict(tasks=['ReferringComprehensionTask'], with_masks=False), ),
    'captions': (dict(tasks=['CaptionTask']), ),
    'nothing to find': (dict(tasks=['PanopticTask'], num_objects=0), ),
    'everything': (dict(tasks=['PanopticTask', 'GeneralizedReferringTask', 'CaptionTask']),
                   dict(tasks=['PhraseGroundingTask'], with_masks=False)),
}


def backward(model, samples, mix):
    groups = [samples(*args['tasks'], **{k: v for k, v in args.items() if k != 'tasks'})
              for args in mix]
    total(model(**prepare(model, groups, True), mode='loss')).backward()


@pytest.mark.parametrize('mix', list(GRADIENT_MIXES))
def test_gradients_reach_every_parameter_in_each_mix(training_model, samples, mix):
    backward(training_model, samples, GRADIENT_MIXES[mix])
    missing = [n for n, p in training_model.named_parameters() if p.grad is None]
    assert not missing
    assert all(p.grad.isfinite().all() for p in training_model.parameters())


def test_everything_together_moves_every_parameter(training_model, samples):
    backward(training_model, samples, GRADIENT_MIXES['everything'])
    still = [n for n, p in training_model.named_parameters() if p.grad.abs().sum() == 0]
    assert not still


def test_a_frozen_encoder_gets_no_gradient(tokenizer_path, samples):
    model = build_model(tokenizer_path, encoder=dict(frozen=True)).train()
    backward(model, samples, GRADIENT_MIXES['everything'])
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith('encoder.'), name
    assert not model.encoder.training and model.perception.training


def test_the_connector_alone_trains_on_language(tokenizer_path, samples):
    model = build_model(tokenizer_path, trainable=['connector']).train()
    model.perception.loss = model.pixel_decoder.forward = None
    losses = model(**prepare(model, [samples('CaptionTask', 'PanopticTask')], True), mode='loss')
    assert list(losses) == ['loss_llm']
    total(losses).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith('connector.'), name


def test_an_encoder_that_trains_on_language_has_all_its_gradients(tokenizer_path, samples):
    model = build_model(tokenizer_path, trainable=['connector', 'encoder']).train()
    backward(model, samples, GRADIENT_MIXES['captions'])
    assert all(p.grad is not None for p in model.encoder.parameters())


def test_an_unknown_trainable_part_raises(tokenizer_path):
    with pytest.raises(ValueError, match=r"Cannot train \['adapter'\]: the model has .*connector"):
        build_model(tokenizer_path, trainable=['connector', 'adapter'])
