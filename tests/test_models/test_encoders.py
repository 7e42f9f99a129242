# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

import mvp_mm.models  # noqa: F401
from mvp_mm.models.encoders import ImageEncoder, TimmBackbone
from mvp_mm.registry import MODELS

SWIN = dict(type='mmdet.SwinTransformer', embed_dims=16, depths=(1, 1, 1, 1),
            num_heads=(1, 2, 2, 4), window_size=4)
TIMM_SWIN = dict(img_size=128, embed_dim=32, depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 4),
                 window_size=4)


@MODELS.register_module(force=True)
class ThreeLevelBackbone(nn.Module):
    num_features = (8, 16, 32)


def test_swin_gives_strides_4_to_32():
    encoder = ImageEncoder(SWIN, frozen=False)
    maps = encoder(torch.randn(2, 3, 64, 128))
    assert encoder.out_channels == [16, 32, 64, 128]
    assert [tuple(m.shape) for m in maps] == [
        (2, 16, 16, 32), (2, 32, 8, 16), (2, 64, 4, 8), (2, 128, 2, 4)]


def test_a_batch_gives_what_its_images_give_alone():
    encoder = ImageEncoder(SWIN).eval()
    images = torch.randn(2, 3, 64, 64)
    for together, alone in zip(encoder(images), encoder(images[1:]), strict=True):
        torch.testing.assert_close(together[1:], alone)


def test_a_frozen_encoder_stays_in_eval_mode_and_gives_no_gradients():
    encoder = ImageEncoder(dict(type='TimmBackbone', model_name='resnet10t'), frozen=True).train()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    maps = encoder(torch.randn(2, 3, 64, 64))
    assert not any(m.training for m in encoder.modules())
    assert not any(p.requires_grad for p in encoder.parameters())
    assert not any(m.requires_grad for m in maps)
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())


def test_an_encoder_that_trains_gives_gradients_and_moves_its_statistics():
    encoder = ImageEncoder(dict(type='TimmBackbone', model_name='resnet10t'), frozen=False).train()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    sum(m.square().sum() for m in encoder(torch.randn(2, 3, 64, 64))).backward()
    assert all(p.grad is not None for p in encoder.parameters())
    assert any(not torch.equal(v, before[k]) for k, v in encoder.state_dict().items()
               if 'running_mean' in k)


def test_a_backbone_with_three_levels_raises():
    with pytest.raises(ValueError, match='needs 4 levels .* has 3'):
        ImageEncoder(dict(type='ThreeLevelBackbone'))


def test_timm_convolutions_give_what_timm_gives():
    backbone = TimmBackbone('resnet10t').eval()
    plain = timm.create_model('resnet10t', features_only=True, out_indices=(1, 2, 3, 4)).eval()
    plain.load_state_dict(backbone.model.state_dict())
    images = torch.randn(1, 3, 64, 64)
    for ours, reference in zip(backbone(images), plain(images), strict=True):
        torch.testing.assert_close(ours, reference)
    assert list(backbone.num_features) == [m.shape[1] for m in plain(images)]


def test_a_timm_model_with_five_stages_gives_a_map_at_stride_2():
    encoder = ImageEncoder(dict(
        type='TimmBackbone', model_name='resnet10t', out_indices=(0, 1, 2, 3, 4)), frozen=False)
    maps = encoder(torch.randn(1, 3, 64, 64))
    assert [m.shape[-1] for m in maps] == [32, 16, 8, 4, 2]
    assert encoder.out_channels == [m.shape[1] for m in maps]


@pytest.mark.parametrize('embed_dim', [16, 32])
def test_timm_transformers_give_channels_first(embed_dim):
    # With 32 channels the first map is 32 × 32 × 32: its shape does not tell the layout.
    args = {**TIMM_SWIN, 'embed_dim': embed_dim}
    backbone = TimmBackbone('swin_tiny_patch4_window7_224', model_args=args).eval()
    plain = timm.create_model('swin_tiny_patch4_window7_224', features_only=True, **args).eval()
    plain.load_state_dict(backbone.model.state_dict())
    images = torch.randn(1, 3, 128, 128)
    for ours, reference in zip(backbone(images), plain(images), strict=True):
        torch.testing.assert_close(ours, reference.permute(0, 3, 1, 2))


@pytest.mark.parametrize(('name', 'args'), [
    ('resnet10t', {}), ('swin_tiny_patch4_window7_224', TIMM_SWIN)])
def test_timm_reads_a_local_classification_checkpoint(tmp_path, name, args):
    classifier = timm.create_model(name, **args).eval()
    torch.save(classifier.state_dict(), tmp_path / 'weights.pth')
    backbone = TimmBackbone(
        name, pretrained_path=str(tmp_path / 'weights.pth'), model_args=args).eval()
    loaded = {p.detach().flatten()[:8].numpy().tobytes() for p in backbone.parameters()}
    first = classifier.state_dict()['conv1.0.weight' if 'conv1.0.weight' in
                                    classifier.state_dict() else 'patch_embed.proj.weight']
    assert first.flatten()[:8].numpy().tobytes() in loaded


def test_stages_of_other_strides_raise():
    with pytest.raises(ValueError, match=r'strides \[2, 4, 8, 16\]'):
        TimmBackbone('resnet10t', out_indices=(0, 1, 2, 3))


@pytest.mark.parametrize('backbone', [
    SWIN, dict(type='TimmBackbone', model_name='resnet10t'),
    dict(type='TimmBackbone', model_name='swin_tiny_patch4_window7_224', model_args=TIMM_SWIN)],
    ids=['mmdet swin', 'timm convolutions', 'timm swin'])
def test_recomputing_keeps_maps_and_gradients(backbone):
    images = torch.randn(2, 3, 128, 128)
    results, kept = [], []
    for recompute in (False, True):
        torch.manual_seed(0)
        encoder = ImageEncoder(backbone, frozen=False, gradient_checkpointing=recompute).train()
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(
                lambda x, saved=saved: saved.append(x.nbytes) or x, lambda x: x):
            maps = encoder(images)
        sum(m.square().mean() for m in maps).backward()
        results.append([*maps, *(p.grad for p in encoder.parameters())])
        kept.append(sum(saved))
    for plain, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(recomputed, plain, atol=1e-5, rtol=1e-4)
    assert kept[1] < 0.8 * kept[0]


def test_recomputing_is_refused_where_it_has_no_use():
    with pytest.raises(ValueError, match='frozen encoder keeps no activations'):
        ImageEncoder(SWIN, frozen=True, gradient_checkpointing=True)

