# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import pytest
import torch
from mmdet.models.backbones.swin import SwinTransformer as Reference

from mvp_mm.models.encoders.swin import SwinTransformer, shift_mask

SIZES = dict(embed_dims=16, depths=(2, 2, 2, 2), num_heads=(2, 2, 4, 4), window_size=4,
             drop_path_rate=0.0)


@pytest.fixture
def pair():
    """A fused and a plain Swin with the same weights, biases of positions included."""
    torch.manual_seed(0)
    plain = Reference(**SIZES)
    for name, parameter in plain.named_parameters():
        if 'bias' in name:
            torch.nn.init.normal_(parameter, std=0.5)
    fused = SwinTransformer(**SIZES)
    fused.load_state_dict(plain.state_dict())
    return fused, plain


def test_parameters_have_mmdets_names(pair):
    fused, plain = pair
    assert list(fused.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize('size', [(64, 64), (72, 104), (20, 36)])
def test_maps_equal_mmdets_on_canvases_that_windows_fit_and_do_not(pair, size):
    fused, plain = pair
    images = torch.randn(2, 3, *size)
    for ours, theirs in zip(fused(images), plain(images), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_gradients_equal_mmdets(pair):
    images = torch.randn(2, 3, 72, 104)
    gradients = []
    for model in pair:
        sum(maps.square().mean() for maps in model(images)).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6, msg=name)


def test_a_frozen_model_sees_weights_that_are_loaded_later(pair):
    fused, plain = pair
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        fused.requires_grad_(False)(images)
        for model in pair:
            for block in model.stages[0].blocks:
                block.attn.w_msa.relative_position_bias_table.fill_(3.0).view(-1)[::3] = -2.0
        torch.testing.assert_close(fused(images)[0], plain(images)[0], rtol=1e-5, atol=1e-5)


def test_a_mask_is_made_once_for_each_size():
    device = torch.device('cpu')
    assert shift_mask(8, 12, 4, 2, device) is shift_mask(8, 12, 4, 2, device)
    assert shift_mask(8, 12, 4, 2, device).shape == (6, 1, 16, 16)
