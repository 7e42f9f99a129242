# Copyright (c) mvp_mm authors. All rights reserved.
import pytest
import torch
from mmengine.optim import build_optim_wrapper
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


def test_settings_of_single_parameters_are_refused():
    with pytest.raises(ValueError, match='has no paramwise_cfg'):
        build_optim_wrapper(Small(), dict(WRAPPER, paramwise_cfg=dict(norm_decay_mult=0.0)))


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
