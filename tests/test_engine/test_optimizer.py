# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import pytest
import torch
from mmengine.optim import LinearLR, build_optim_wrapper
from torch import nn

import mvp_mm.engine  # noqa: F401  registers the constructor
import mvp_mm.models  # noqa: F401  registers the components
from mvp_mm.engine import load_config
from mvp_mm.registry import MODELS
from tests.helpers import ROOT

WRAPPER = dict(constructor='mvp_mm.NoNormBiasDecayConstructor',
               optimizer=dict(type='AdamW', lr=0.1, weight_decay=0.5))


class Small(nn.Module):

    def __init__(self):
        super().__init__()
        self.names = nn.Embedding(3, 4)
        self.conv = nn.Conv2d(4, 4, 3)
        self.attention = nn.MultiheadAttention(4, 2)
        self.norm = nn.LayerNorm(4)
        self.queries = nn.Parameter(torch.ones(2, 4))
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.tied = nn.Linear(4, 3, bias=False)
        self.tied.weight = self.names.weight
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


def groups(model, wrapper):
    """Names of what decays and of what does not."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {group['weight_decay']: {names[id(p)] for p in group['params']}
             for group in wrapper.optimizer.param_groups}
    return found


def test_matrices_alone_decay_and_every_parameter_that_trains_is_in_once():
    model = Small()
    found = groups(model, build_optim_wrapper(model, WRAPPER))
    assert found[0.5] == {'conv.weight', 'attention.in_proj_weight', 'attention.out_proj.weight'}
    assert found[0.0] == {name for name, p in model.named_parameters()
                          if p.requires_grad} - found[0.5]


def test_a_step_without_gradients_pulls_matrices_alone():
    model = Small()
    wrapper = build_optim_wrapper(model, WRAPPER)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    wrapper.step()
    for name, parameter in model.named_parameters():
        factor = 0.95 if name.endswith('weight') and parameter.ndim > 1 and not name.startswith(
            ('names', 'tied', 'frozen')) else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor)


@pytest.mark.parametrize('settings, message', [
    (dict(norm_decay_mult=0.0), 'paramwise_cfg.norm_decay_mult: NoNormBiasDecayConstructor knows'),
    (dict(lr_mult=dict(decoder=2)), "lr_mult: 'decoder' has no trainable parameter; .*'attention'"),
    (dict(lr_mult=dict(frozen=2)), "lr_mult: 'frozen' has no trainable"),
    (dict(lr_mult=dict(conv=-1)), r"lr_mult\['conv'\] must be a number from 0 on, got -1")])
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        build_optim_wrapper(Small(), dict(WRAPPER, paramwise_cfg=settings))


def test_parts_learn_at_rates_of_their_own():
    model = Small()
    wrapper = build_optim_wrapper(model, dict(WRAPPER, paramwise_cfg=dict(
        lr_mult={'conv': 10, 'attention': 2, 'attention.out_proj': 3}, decay_mult={'conv': 0.5})))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {names[id(p)]: (group['lr'], group['weight_decay'])
             for group in wrapper.optimizer.param_groups for p in group['params']}
    assert found['conv.weight'] == (1.0, 0.25) and found['conv.bias'] == (1.0, 0.0)
    assert found['attention.in_proj_weight'] == (0.2, 0.5)
    assert found['attention.out_proj.weight'] == (pytest.approx(0.3), 0.5)
    assert found['norm.weight'] == (0.1, 0.0)
    assert len(found) == sum(p.requires_grad for p in model.parameters())


def test_everything_decays_on_demand():
    model = Small()
    wrapper = build_optim_wrapper(model, dict(WRAPPER, paramwise_cfg=dict(decay_all=True)))
    assert [group['weight_decay'] for group in wrapper.optimizer.param_groups] == [0.5]


def test_schedules_move_all_rates_alike():
    model = Small()
    wrapper = build_optim_wrapper(
        model, dict(WRAPPER, paramwise_cfg=dict(lr_mult={'conv': 10})))
    schedule = LinearLR(wrapper, start_factor=0.5, end=2, by_epoch=False)
    rates = [set(wrapper.get_lr()['lr'])]
    schedule.step()
    schedule.step()
    rates.append(set(wrapper.get_lr()['lr']))
    assert rates == [{0.05, 0.5}, {0.1, 1.0}]


def test_stage_two_has_two_groups_and_a_plain_setting():
    cfg = load_config(ROOT / 'configs/mvplm/tiny/stage2.py')
    model = MODELS.build(cfg.model)
    wrapper = dict(cfg.optim_wrapper, type=f'mvp_mm.{cfg.optim_wrapper.type}')
    found = groups(model, build_optim_wrapper(
        model, dict(wrapper, constructor=f'mvp_mm.{wrapper["constructor"]}')))
    assert sorted(found) == [0.0, 0.05]
    assert 'pixel_decoder.level_embed' in found[0.0] and 'llm.lm.model.embed_tokens.weight' in (
        found[0.0])
    plain = build_optim_wrapper(
        model, dict(wrapper, constructor='DefaultOptimWrapperConstructor'))
    assert [group['weight_decay'] for group in plain.optimizer.param_groups] == [0.05]
