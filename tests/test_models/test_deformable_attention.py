# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import sys

import pytest
import torch
from mmcv.ops import MultiScaleDeformableAttention
from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

from mvp_mm.ops import DeformableAttention, deformable_attention
from mvp_mm.ops.cpu_kernel import DeformableAttentionCPU, load_kernel
from mvp_mm.ops.deformable_attention import load_cuda_operator, sample_with_torch

SHAPES = torch.tensor([[6, 9], [3, 5], [1, 2]])
STARTS = torch.tensor([0, 54, 69])
TOKENS = 71

needs_kernel = pytest.mark.skipif(
    load_kernel() is None,
    reason='the CPU kernel is not built: python -m mvp_mm.ops.cpu_kernel')


def make_inputs(queries, heads, channels, spread):
    """Values, locations and weights; with a spread over 1 points lie outside the maps."""
    value = torch.randn(2, TOKENS, heads, channels)
    locations = (torch.rand(2, queries, heads, 3, 4, 2) - 0.5) * spread + 0.5
    weights = torch.rand(2, queries, heads, 3, 4)
    return [x.requires_grad_(True) for x in (value, locations, weights)]


def run_kernel(value, locations, weights):
    return DeformableAttentionCPU.apply(value, SHAPES, STARTS, locations, weights).flatten(2)


def run_torch(value, locations, weights):
    return sample_with_torch(value, SHAPES.tolist(), locations, weights)


@pytest.mark.parametrize('run', [pytest.param(run_kernel, marks=needs_kernel), run_torch])
@pytest.mark.parametrize(('queries', 'heads', 'channels'), [(7, 4, 8), (1, 1, 5), (13, 2, 32)])
@pytest.mark.parametrize('spread', [0.9, 3.0])
def test_both_cpu_versions_give_mmcv_s_values_and_gradients(
        run, queries, heads, channels, spread):
    value, locations, weights = make_inputs(queries, heads, channels, spread)
    ours = run(value, locations, weights)
    reference = multi_scale_deformable_attn_pytorch(value, SHAPES, locations, weights)
    torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-4)
    direction = torch.randn_like(ours)
    found = torch.autograd.grad((ours * direction).sum(), (value, locations, weights))
    expected = torch.autograd.grad((reference * direction).sum(), (value, locations, weights))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@needs_kernel
def test_points_far_outside_give_nothing():
    value, locations, weights = make_inputs(3, 2, 4, 1.0)
    far = (locations.detach() + 5.0).requires_grad_(True)
    out = DeformableAttentionCPU.apply(value, SHAPES, STARTS, far, weights)
    out.sum().backward()
    assert (out == 0).all()
    assert all((x.grad == 0).all() for x in (value, far, weights))


@needs_kernel
def test_the_kernel_takes_tensors_that_are_not_contiguous():
    value, locations, weights = make_inputs(5, 2, 4, 1.5)
    strided = value.detach().transpose(1, 2).contiguous().transpose(1, 2)
    assert not strided.is_contiguous()
    torch.testing.assert_close(
        DeformableAttentionCPU.apply(strided, SHAPES, STARTS, locations, weights),
        DeformableAttentionCPU.apply(value, SHAPES, STARTS, locations, weights))


@pytest.fixture
def pair():
    """Our module and mmcv's with the same random weights."""
    ours = DeformableAttention(embed_dims=32, num_heads=4, num_levels=3, num_points=2)
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    theirs = MultiScaleDeformableAttention(
        embed_dims=32, num_heads=4, num_levels=3, num_points=2, dropout=0.0, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize('coordinates', [2, 4])
@pytest.mark.parametrize('padded', [False, True])
def test_the_module_is_mmcv_s_without_its_residual(pair, coordinates, padded):
    query, value = torch.randn(2, 11, 32), torch.randn(2, TOKENS, 32)
    reference = torch.rand(2, 11, coordinates)
    mask = torch.rand(2, TOKENS) > 0.6 if padded else None
    ours = pair[0](query, value, reference, SHAPES, STARTS, mask)
    theirs = pair[1](
        query, value=value, identity=torch.zeros_like(query), key_padding_mask=mask,
        reference_points=reference[:, :, None].expand(-1, -1, 3, -1), spatial_shapes=SHAPES,
        level_start_index=STARTS)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_the_module_s_gradients_are_mmcv_s(pair):
    query, value = torch.randn(2, 11, 32), torch.randn(2, TOKENS, 32)
    reference, direction = torch.rand(2, 11, 4), torch.randn(2, 11, 32)
    (pair[0](query, value, reference, SHAPES, STARTS) * direction).sum().backward()
    theirs = pair[1](
        query, value=value, identity=torch.zeros_like(query),
        reference_points=reference[:, :, None].expand(-1, -1, 3, -1), spatial_shapes=SHAPES,
        level_start_index=STARTS)
    (theirs * direction).sum().backward()
    for (name, a), b in zip(pair[0].named_parameters(), pair[1].parameters(), strict=True):
        torch.testing.assert_close(
            a.grad, b.grad, atol=1e-3, rtol=1e-3, msg=lambda m, name=name: f'{name}: {m}')


def test_it_starts_where_mmcv_s_module_starts():
    sizes = dict(embed_dims=32, num_heads=4, num_levels=3, num_points=2)
    torch.manual_seed(0)
    ours = DeformableAttention(**sizes)
    theirs = MultiScaleDeformableAttention(**sizes)
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if name in ('value_proj.weight', 'output_proj.weight'):
            bound = (6 / 64) ** 0.5
            assert a.abs().max() <= bound and abs(a.std() - bound / 3 ** 0.5) < 0.02
        else:
            assert torch.equal(a, b), name


def test_without_mmcv_s_operators_cuda_runs_on_torch_and_says_so(monkeypatch):
    load_cuda_operator.cache_clear()
    monkeypatch.setattr(deformable_attention, 'has_operators', lambda: False)
    said = []
    monkeypatch.setattr(deformable_attention.MMLogger, 'get_current_instance',
                        lambda: type('Log', (), {'warning': staticmethod(said.append)}))
    assert load_cuda_operator() is None and load_cuda_operator() is None
    assert len(said) == 1 and 'installation.md' in said[0]
    load_cuda_operator.cache_clear()


def test_operators_of_another_torch_are_an_error_with_the_cause(monkeypatch):
    load_cuda_operator.cache_clear()
    monkeypatch.setitem(sys.modules, 'mmcv.ops.multi_scale_deform_attn', None)
    with pytest.raises(RuntimeError, match='another torch than.*build onedl-mmcv again'):
        load_cuda_operator()
    load_cuda_operator.cache_clear()


def test_padded_memory_does_not_count(pair):
    query, value = torch.randn(2, 5, 32), torch.randn(2, TOKENS, 32)
    reference = torch.rand(2, 5, 2)
    mask = torch.rand(2, TOKENS) > 0.5
    noised = torch.where(mask[..., None], torch.randn_like(value) * 9, value)
    torch.testing.assert_close(pair[0](query, value, reference, SHAPES, STARTS, mask),
                               pair[0](query, noised, reference, SHAPES, STARTS, mask))


def test_it_is_a_float32_island_under_autocast(pair):
    query, value = torch.randn(2, 5, 32), torch.randn(2, TOKENS, 32)
    reference = torch.rand(2, 5, 2)
    plain = pair[0](query, value, reference, SHAPES, STARTS)
    with torch.autocast('cpu', torch.bfloat16):
        inside = pair[0](query, value, reference, SHAPES, STARTS)
    torch.testing.assert_close(inside, plain, rtol=0, atol=0)
    assert pair[0](query.bfloat16(), value.bfloat16(), reference, SHAPES,
                   STARTS).dtype == torch.bfloat16
