# Copyright (c) mvp_mm authors. All rights reserved.
"""Encoders of mmdet and timm, built by those libraries, in our layout."""
from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from torch import nn

import mvp_mm.models  # noqa: F401  registers the components
from mvp_mm.converters import convert_layout
from mvp_mm.registry import MODELS

SWIN = dict(type='mmdet.SwinTransformer', pretrain_img_size=128, embed_dims=16,
            depths=(1, 2, 2, 1), num_heads=(1, 2, 2, 4), window_size=4, drop_path_rate=0.0)
# timm shifts windows before it pads: the same function only where every map is divisible.
TIMM = dict(model_name='swin_tiny_patch4_window7_224', embed_dim=16, depths=(1, 2, 2, 1),
            num_heads=(1, 2, 2, 4), window_size=4, img_size=128, always_partition=True)


def randomized(module):
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    return module.eval()


def encoder_with(state):
    """Our encoder with converted weights, and the keys that these lack."""
    done, layout = convert_layout(state)
    encoder = MODELS.build(dict(type='ImageEncoder', backbone=SWIN)).eval()
    found = encoder.load_state_dict(
        {key.removeprefix('encoder.'): value for key, value in done.state.items()}, strict=False)
    assert not found.unexpected_keys
    return encoder, found.missing_keys, done, layout


def images():
    return torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(1))


def mask2former():
    """mmdet's backbone and pixel decoder under the names that a Mask2Former gives them."""
    detector = nn.Module()
    detector.backbone = MODELS.build(SWIN)
    detector.panoptic_head = nn.Module()
    attention = dict(
        self_attn_cfg=dict(embed_dims=32, num_heads=4, num_levels=3),
        ffn_cfg=dict(embed_dims=32, feedforward_channels=64))
    detector.panoptic_head.pixel_decoder = MODELS.build(ConfigDict(
        type='mmdet.MSDeformAttnPixelDecoder', in_channels=[16, 32, 64, 128], feat_channels=32,
        out_channels=32, encoder=dict(num_layers=1, layer_cfg=attention),
        positional_encoding=dict(num_feats=16, normalize=True)))
    return randomized(detector)


def test_the_backbone_of_mmdets_mask2former_gives_the_same_maps():
    detector = mask2former()
    encoder, missing, done, layout = encoder_with(detector.state_dict())
    assert not missing and layout.title == 'mmdet'
    with torch.no_grad():
        for found, expected in zip(encoder(images()), detector.backbone(images()), strict=True):
            torch.testing.assert_close(found, expected)


def test_the_pixel_decoder_of_mmdets_mask2former_is_left_and_it_is_said_why():
    detector = mask2former()
    *_, done, layout = encoder_with(detector.state_dict())
    head = [key for key in detector.state_dict() if key.startswith('panoptic_head.')]
    assert done.left == head and 'three levels' in layout.remark


def test_a_timm_feature_extractor_gives_the_same_maps_before_their_norms():
    swin = randomized(timm.create_model(features_only=True, **TIMM))
    encoder, missing, done, layout = encoder_with(swin.state_dict())
    assert layout.title == 'timm' and not done.left
    # What the encoder has beyond timm's: a norm for every map, and tables that are computed.
    assert {key for key in missing if 'relative_position_index' not in key} == {
        f'backbone.norm{i}.{name}' for i in range(4) for name in ('weight', 'bias')}
    with torch.no_grad():
        expected = [F.layer_norm(m, m.shape[-1:]).permute(0, 3, 1, 2) for m in swin(images())]
        for found, wanted in zip(encoder(images()), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_timm_classifier_gives_the_same_last_map():
    swin = randomized(timm.create_model(**TIMM))
    encoder, _, done, layout = encoder_with(swin.state_dict())
    assert layout.title == 'timm' and done.left == ['head.fc.weight', 'head.fc.bias']
    with torch.no_grad():
        expected = swin.forward_features(images()).permute(0, 3, 1, 2)
        torch.testing.assert_close(encoder(images())[-1], expected, rtol=1e-4, atol=1e-4)


def test_swins_own_files_are_not_taken_for_timms():
    state = {'patch_embed.proj.weight': torch.zeros(16, 3, 4, 4),
             'layers.0.downsample.norm.weight': torch.arange(64.)}
    done, layout = convert_layout(state)
    assert layout.title == "Swin's authors"
    assert 'encoder.backbone.stages.0.downsample.norm.weight' in done.state


@pytest.mark.parametrize('key', ['layers.0.blocks.1.attn.qkv.weight',
                                 'layers_0.blocks.1.attn.qkv.weight'])
def test_both_ways_in_which_timm_names_stages_are_known(key):
    done, _ = convert_layout({'layers_3.downsample.norm.weight': torch.zeros(256),
                              key: torch.zeros(1)})
    assert 'encoder.backbone.stages.0.blocks.1.attn.w_msa.qkv.weight' in done.state
