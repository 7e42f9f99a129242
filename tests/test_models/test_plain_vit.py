# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F

from mvp_mm.models.encoders import ImageEncoder, PlainViT, TimmBackbone
from tests.helpers import build_model, make_batch, make_samples

TINY = dict(depth=2, embed_dim=48, num_heads=3)
# With rotary positions, register tokens, no class token, and patches of 14.
NAMES = ['vit_tiny_patch16_224', 'vit_small_patch16_dinov3', 'vit_base_patch16_siglip_256',
         'vit_base_patch16_clip_224', 'vit_small_patch14_reg4_dinov2', 'eva02_tiny_patch14_224']


def vit(name, **args):
    return dict(type='PlainViT', model_name=name, model_args={**TINY, **args})


def encoder(name, **settings):
    return ImageEncoder(vit(name), neck=dict(type='SimpleFeaturePyramid'), **settings)


@pytest.mark.parametrize('name', NAMES)
def test_the_stride_16_map_holds_the_vit_s_own_tokens(name):
    built = encoder(name).eval()
    images = torch.randn(2, 3, 96, 128)
    maps = built(images)
    assert [tuple(m.shape) for m in maps] == [
        (2, 12, 24, 32), (2, 24, 12, 16), (2, 48, 6, 8), (2, 48, 3, 4)]
    assert [m.shape[1] for m in maps] == built.out_channels
    patch = 16 if '16' in name else 14
    resampled = F.interpolate(images, (6 * patch, 8 * patch), mode='bilinear', antialias=True)
    model = built.backbone.vit
    with torch.no_grad():
        tokens = model.forward_features(resampled)[:, model.num_prefix_tokens:]
    for row in range(6):
        for column in range(8):
            torch.testing.assert_close(maps[2][:, :, row, column], tokens[:, 8 * row + column])
    torch.testing.assert_close(maps[3], F.max_pool2d(maps[2], 2))


def test_a_patch_of_14_covers_16_pixels_of_the_canvas(monkeypatch):
    backbone = PlainViT('vit_small_patch14_dinov2', model_args=TINY)
    seen = []

    def tokens(images):
        seen.append(images)
        return torch.zeros(1, 1 + 4 * 6, 48)

    monkeypatch.setattr(backbone.vit, 'forward_features', tokens)
    cells = torch.rand(1, 3, 4, 6)
    backbone(cells.repeat_interleave(16, 2).repeat_interleave(16, 3))
    # Away from its border, a patch shows its cell alone.
    inside = seen[0].unflatten(2, (4, 14)).unflatten(4, (6, 14))[:, :, :, 2:-2, :, 2:-2]
    torch.testing.assert_close(inside, cells[:, :, :, None, :, None].expand_as(inside))


def test_weights_of_a_classifier_are_read_from_a_local_file(tmp_path):
    name = 'vit_tiny_patch16_224'
    classifier = timm.create_model(name, **TINY).eval()
    torch.save(classifier.state_dict(), tmp_path / 'weights.pth')
    backbone = PlainViT(name, str(tmp_path / 'weights.pth'), TINY)
    for key, value in backbone.vit.state_dict().items():
        assert torch.equal(value, classifier.state_dict()[key]), key


def test_a_frozen_vit_trains_its_pyramid():
    built = encoder('vit_tiny_patch16_224', frozen=True).train()
    assert built.neck.training and not built.backbone.training
    sum(m.square().sum() for m in built(torch.randn(1, 3, 64, 64))).backward()
    assert all(p.grad is None for p in built.backbone.parameters())
    assert all(p.grad.abs().sum() > 0 for p in built.neck.parameters())


def test_a_pyramid_is_asked_for_where_it_is_missing():
    with pytest.raises(ValueError, match=r"has 1 \(for a plain ViT: encoder.neck=dict\(type='Si"):
        ImageEncoder(vit('vit_tiny_patch16_224'))
    with pytest.raises(ValueError, match=r"strides \[16, 16, 16\], need \[4, 8, 16, 32\], or 2 "
                       r"before them; for a plain ViT, give encoder.backbone=dict\(type='"):
        TimmBackbone('vit_tiny_patch16_224', model_args={**TINY, 'depth': 3})


def test_models_that_are_no_plain_vits_are_refused():
    with pytest.raises(ValueError, match='resnet10t is no plain ViT'):
        PlainViT('resnet10t')


def test_a_canvas_off_the_grid_is_refused():
    with pytest.raises(ValueError, match='canvas of 64 × 80 is no multiple of 32'):
        PlainViT('vit_tiny_patch16_224', model_args=TINY)(torch.zeros(1, 3, 64, 80))


@pytest.mark.parametrize('name', ['vit_tiny_patch16_224', 'vit_small_patch14_dinov2'])
def test_a_training_step_reaches_every_parameter(tokenizer_path, name):
    model = build_model(tokenizer_path, encoder=dict(
        _delete_=True, type='ImageEncoder', frozen=False, gradient_checkpointing=True,
        backbone=vit(name), neck=dict(type='SimpleFeaturePyramid'))).train()
    group = [*make_samples('PanopticTask', tokenizer_path),
             *make_samples('ReferringSegmentationTask', tokenizer_path)]
    data = model.data_preprocessor(make_batch([group]), True)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    loss.backward()
    assert loss.isfinite()
    without = [n for n, p in model.encoder.named_parameters() if p.grad is None
               or not p.grad.isfinite().all()]
    assert not without
