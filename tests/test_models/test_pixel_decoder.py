# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from mvp_mm.models.pixel_decoders import MSDeformPixelDecoder
from mvp_mm.models.position import grid_points, inverse_sigmoid, sine_embedding

CHANNELS = [8, 12, 16, 20]


def make_maps(batch=2, height=128, width=64):
    return tuple(torch.randn(batch, c, height // s, width // s)
                 for c, s in zip(CHANNELS, (4, 8, 16, 32), strict=True))


@pytest.fixture
def decoder():
    decoder = MSDeformPixelDecoder(
        CHANNELS, embed_dims=64, num_layers=2, num_heads=4, num_points=2, feedforward=32)
    for layer in decoder.layers:
        torch.nn.init.normal_(layer.attention.sampling_offsets.weight, std=0.3)
        torch.nn.init.normal_(layer.attention.attention_weights.weight, std=0.3)
    return decoder


@pytest.fixture
def with_finer_masks(decoder):
    """The same weights with the step to stride 2, and maps for both."""
    finer = MSDeformPixelDecoder([6, *CHANNELS], embed_dims=64, num_layers=2, num_heads=4,
                                 num_points=2, feedforward=32)
    missing = finer.load_state_dict(decoder.state_dict(), strict=False).missing_keys
    assert missing and all(name.startswith('finer.') for name in missing)
    return finer, (torch.randn(2, 6, 64, 32), *make_maps())


def test_shapes(decoder):
    out = decoder(make_maps(), torch.ones(2, 2))
    assert out['shapes'] == [(16, 8), (8, 4), (4, 2), (2, 1)]
    assert out['spatial_shapes'].tolist() == [[16, 8], [8, 4], [4, 2], [2, 1]]
    assert out['level_start_index'].tolist() == [0, 128, 160, 168]
    assert out['memory'].shape == (2, 170, 64)
    assert out['mask_features'].shape == (2, 64, 32, 16)
    assert out['padding_mask'].shape == (2, 170) and not out['padding_mask'].any()


def test_padding_is_what_lies_outside_the_image(decoder):
    extent = torch.tensor([[0.5, 1.0], [1.0, 0.3]])
    mask = decoder(make_maps(), extent)['padding_mask']
    for image, (across, down) in enumerate(extent.tolist()):
        expected = [(x + 0.5) / w > across or (y + 0.5) / h > down
                    for h, w in [(16, 8), (8, 4), (4, 2), (2, 1)]
                    for y in range(h) for x in range(w)]
        assert mask[image].tolist() == expected


def test_the_content_of_padded_tokens_never_changes_valid_ones(decoder):
    shapes = [(16, 8), (8, 4), (4, 2), (2, 1)]
    points = grid_points(shapes, torch.device('cpu'))
    padding = (points > torch.tensor([0.5, 0.7])).any(-1)[None]
    args = (torch.randn(1, 170, 64), points[None], torch.tensor(shapes),
            torch.tensor([0, 128, 160, 168]), padding)
    tokens = torch.randn(1, 170, 64)
    noised = torch.where(padding[..., None], torch.randn_like(tokens) * 10, tokens)
    outputs = []
    for value in (tokens, noised):
        for layer in decoder.layers:
            value = layer(value, *args)
        outputs.append(value[~padding])
    torch.testing.assert_close(*outputs)


def test_a_batch_gives_what_its_images_give_alone(decoder):
    maps, extent = make_maps(), torch.tensor([[1.0, 0.5], [0.6, 1.0]])
    together = decoder(maps, extent)
    alone = decoder(tuple(m[1:] for m in maps), extent[1:])
    for name in ('memory', 'mask_features', 'padding_mask'):
        torch.testing.assert_close(together[name][1:], alone[name], atol=1e-5, rtol=1e-4)


def test_gradients_reach_every_map_and_weight(decoder):
    maps = tuple(m.requires_grad_(True) for m in make_maps())
    out = decoder(maps, torch.ones(2, 2))
    weights = [torch.randn_like(out[name]) for name in ('memory', 'mask_features')]
    ((out['memory'] * weights[0]).sum() + (out['mask_features'] * weights[1]).sum()).backward()
    assert all(m.grad.abs().sum() > 0 for m in maps)
    assert all(p.grad.abs().sum() > 0 for p in decoder.parameters())


def test_gradient_checkpointing_recomputes_layers_and_changes_nothing(decoder):
    maps, extent = make_maps(), torch.ones(2, 2)
    runs, found = [], []
    decoder.layers[1].norm1.register_forward_hook(lambda *_: runs.append(1))
    for on in (False, True):
        decoder.gradient_checkpointing = on
        decoder.zero_grad()
        out = decoder(maps, extent)
        (out['memory'].square().sum() + out['mask_features'].square().sum()).backward()
        found.append([p.grad for p in decoder.parameters()])
    assert len(runs) == 1 + 2
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_sine_embedding_is_sines_then_cosines_of_each_coordinate():
    found = sine_embedding(torch.tensor([[0.2, 0.9]]), width=6, max_cycles=8)
    expected = []
    for value in (0.2, 0.9):
        # Half a cycle, the geometric mean of the ends, and eight cycles.
        angles = [value * 2 * math.pi * cycles for cycles in (0.5, 2.0, 8.0)]
        expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    torch.testing.assert_close(found, torch.tensor([expected]))


def test_inverse_sigmoid_inverts_and_stays_finite_at_the_ends():
    logits = torch.tensor([-3.0, 0.0, 2.0])
    torch.testing.assert_close(inverse_sigmoid(logits.sigmoid()), logits)
    assert inverse_sigmoid(torch.tensor([0.0, 1.0])).isfinite().all()


def test_a_fifth_map_halves_the_stride_of_masks_and_leaves_the_memory(decoder, with_finer_masks):
    finer, maps = with_finer_masks
    fine, coarse = finer(maps, torch.ones(2, 2)), decoder(maps[1:], torch.ones(2, 2))
    assert fine['mask_features'].shape == (2, 64, 64, 32)
    assert torch.equal(fine['memory'], coarse['memory'])


def test_finer_masks_start_as_the_upsampled_coarse_ones(decoder, with_finer_masks):
    finer, maps = with_finer_masks
    upsampled = F.interpolate(decoder(maps[1:], torch.ones(2, 2))['mask_features'],
                              scale_factor=2, mode='bilinear')
    torch.testing.assert_close(finer(maps, torch.ones(2, 2))['mask_features'], upsampled)


def test_finer_masks_learn_from_the_fifth_map(with_finer_masks):
    finer, maps = with_finer_masks
    torch.nn.init.normal_(finer.finer.output[-1].weight)
    fifth = maps[0].requires_grad_(True)
    out = finer(maps, torch.ones(2, 2))['mask_features']
    (out * torch.randn_like(out)).sum().backward()
    assert fifth.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for p in finer.finer.parameters())
    # DDP warns where a gradient lies otherwise than its parameter.
    convolution = finer.finer.output[0].weight
    assert convolution.grad.stride() == convolution.stride()
