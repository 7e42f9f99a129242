# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import copy

import pytest
import torch

from mvp_mm.engine.config_loading import load_config
from mvp_mm.models.perception import PerceptionHead
from mvp_mm.registry import MODELS
from projects.caption_tuning.caption_tuning.model import CaptionTuning, difference
from tests.helpers import ROOT, build_model, make_samples, save_tokenizer, tiny_model_config
from tests.test_models.mvp_lm_runs import prepare, total

CONFIG = ROOT / 'projects/caption_tuning/configs/caption_tuning_tiny.py'
TRAINED = ['connector', 'llm']


@pytest.fixture(scope='module')
def tokenizer_path(tmp_path_factory):
    return save_tokenizer(tmp_path_factory.mktemp('tokenizer'))


@pytest.fixture
def samples(tokenizer_path):
    def make(*tasks):
        return [s for task in tasks for s in make_samples(task, tokenizer_path)]
    return make


@pytest.fixture
def trained(tokenizer_path, tmp_path):
    """A model, and its checkpoint."""
    model = build_model(tokenizer_path, seed=1)
    path = tmp_path / 'trained.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return model, path


def tuning(tokenizer_path, path, trainable=TRAINED, **overrides):
    torch.manual_seed(0)
    config = tiny_model_config(tokenizer_path, **overrides)
    kept = dict(weights=str(path), connector=tiny_model_config(tokenizer_path)['connector'])
    return MODELS.build({**config, 'type': 'CaptionTuning', 'kept': kept, 'trainable': trainable})


def test_nothing_differs_from_the_model_that_is_kept(tokenizer_path, trained, samples):
    model = tuning(tokenizer_path, trained[1])
    model.load_state_dict(trained[0].state_dict())
    groups = [samples('PanopticTask', 'ReferringSegmentationTask', 'CaptionTask')]
    losses = model.train()(**prepare(model, groups, True), mode='loss')
    assert losses['loss_text'] < 1e-8 and losses['loss_summary'] < 1e-8
    assert losses['loss_llm'] > 0


def test_the_kept_connector_may_be_another_and_only_connector_and_llm_learn(
        tokenizer_path, trained, samples, monkeypatch):
    monkeypatch.setattr(PerceptionHead, 'loss', lambda *args: pytest.fail('it perceives'))
    model = tuning(tokenizer_path, trained[1],
                   connector=dict(_delete_=True, type='PyramidConnector', merge=2))
    before = copy.deepcopy(model.kept_language.state_dict())
    data = prepare(model, [samples('PanopticTask', 'ReferringSegmentationTask')], True)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-3)
    drifts = []
    for _ in range(20):
        losses = model.train()(**data, mode='loss')
        drifts.append((losses['loss_text'] + losses['loss_summary']).item())
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
    assert drifts[-1] < 0.7 * drifts[0]
    grown = {name.split('.')[0] for name, p in model.named_parameters() if p.grad is not None}
    assert grown == set(TRAINED)
    for name, value in model.kept_language.state_dict().items():
        assert torch.equal(value, before[name])


def test_its_checkpoints_are_those_of_the_plain_model(tokenizer_path, trained):
    model = tuning(tokenizer_path, trained[1])
    assert model.state_dict().keys() == trained[0].state_dict().keys()


def test_captions_alone_are_compared_with_nothing(tokenizer_path, trained, samples):
    model = tuning(tokenizer_path, trained[1])
    losses = model(**prepare(model, [samples('CaptionTask')], True), mode='loss')
    assert losses['loss_text'] == 0 and losses['loss_summary'] == 0
    total(losses).backward()
    assert all(p.grad.isfinite().all() for p in model.llm.parameters() if p.grad is not None)


def test_parts_whose_losses_it_lacks_are_refused(tokenizer_path, trained):
    with pytest.raises(ValueError, match=r"these train too: \['perception'\]"):
        tuning(tokenizer_path, trained[1], trainable=['connector', 'llm', 'perception'])


def test_the_difference_is_in_units_of_the_variance_of_what_is_compared():
    torch.manual_seed(0)
    kept, found = torch.randn(2, 3, 4) * 5, torch.randn(2, 3, 4)
    valid = torch.tensor([[True, True, False], [True, False, True]])
    result = difference(found, kept, valid)
    expected = ((found[valid] - kept[valid])**2).mean() / kept[valid].var(0, correction=0).mean()
    torch.testing.assert_close(result.total / result.count, expected)
    scaled = difference(found * 3, kept * 3, valid)
    torch.testing.assert_close(scaled.total, result.total)


def test_the_config_goes_on_from_the_weights_of_the_repository():
    cfg = load_config(CONFIG)
    model = MODELS.build({**cfg.model, 'data_preprocessor': None})
    assert isinstance(model, CaptionTuning)
    assert cfg.load_from == cfg.model.kept.weights
    trained = {name.split('.')[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == set(TRAINED)
