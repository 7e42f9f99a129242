# Copyright (c) mvp_mm authors. All rights reserved.
"""Training under bfloat16 autocast."""
from __future__ import annotations

import pytest
import torch

from mvp_mm.engine import AutocastOptimWrapper
from mvp_mm.models.heads import SimilarityHead, TextEmbeddings
from mvp_mm.ops import DeformableAttention
from tests.helpers import build_model, make_batch, make_samples

SHAPES, STARTS = torch.tensor([[6, 9], [3, 5]]), torch.tensor([0, 54])


def wrap(parameters, dtype, fused=True):
    return AutocastOptimWrapper(
        dtype, optimizer=torch.optim.AdamW(parameters, lr=1e-4, fused=fused),
        clip_grad=dict(max_norm=1.0))


def test_gradients_of_deformable_attention_pass_the_island():
    module = DeformableAttention(embed_dims=32, num_heads=4, num_levels=2, num_points=2)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    query, value, reference = torch.randn(2, 7, 32), torch.randn(2, 69, 32), torch.rand(2, 7, 4)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        inputs = [x.to(dtype).float().requires_grad_(True) for x in (query, value)]
        if dtype == torch.bfloat16:
            expected = module(*inputs, reference, SHAPES, STARTS).square().sum()
            found.append(torch.autograd.grad(expected, [*inputs, *module.parameters()]))
        with torch.autocast('cpu', torch.bfloat16, enabled=dtype == torch.bfloat16):
            out = module(*(x.to(dtype) for x in inputs), reference, SHAPES, STARTS)
        assert out.dtype == dtype
        found.append(torch.autograd.grad(out.float().square().sum(),
                                         [*inputs, *module.parameters()]))
    _, plain, inside = found
    for a, b in zip(inside, plain, strict=True):
        assert a.isfinite().all()
        assert (a - b).norm() <= 0.02 * b.norm()


@pytest.fixture(scope='module')
def losses_and_gradients(tokenizer_path):
    """Losses and gradients of one mixed batch, in float32 and under autocast.

    Both start from the tokens that float32 selects: rounding may swap tokens that are nearly alike.
    """
    groups = [[s for task in ('PanopticTask', 'ReferringSegmentationTask') for s in make_samples(
        task, tokenizer_path)], make_samples('DetectionTask', tokenizer_path, seed=1)]
    results, selected = [], []
    for dtype in (None, 'bfloat16'):
        model = build_model(tokenizer_path, encoder=dict(frozen=True), perception=dict(
            denoising=dict(label_noise=0.0, box_noise=0.0))).train()
        selection = model.perception.query_generator.selection
        if dtype is None:
            rank = selection.rank
            selection.rank = lambda *args, rank=rank: selected.append(rank(*args)) or selected[0]
        else:
            selection.rank = lambda *args: selected[0]
        wrapper = wrap([p for p in model.parameters() if p.requires_grad], dtype)
        with wrapper.optim_context(model):
            data = model.data_preprocessor(make_batch(groups), True)
            losses = model(**data, mode='loss')
        total = sum(value for name, value in losses.items() if 'loss' in name)
        wrapper.update_params(total)
        results.append((losses, model))
    return results


def test_losses_are_finite_and_near_those_of_float32(losses_and_gradients):
    (plain, _), (inside, _) = losses_and_gradients
    assert plain.keys() == inside.keys()
    for name, value in plain.items():
        assert inside[name].dtype == torch.float32 and inside[name].isfinite()
        assert abs(inside[name] - value) <= 0.05 * abs(value) + 0.01, name


def test_weights_stay_float32_and_move_as_in_float32(losses_and_gradients, tokenizer_path):
    (_, plain), (_, inside) = losses_and_gradients
    start = build_model(tokenizer_path).state_dict()
    moved, same = 0.0, 0.0
    for (name, a), b in zip(plain.named_parameters(), inside.parameters(), strict=True):
        assert b.dtype == torch.float32 and b.isfinite().all()
        if a.requires_grad:
            way, other = a - start[name], b - start[name]
            moved += way.norm() * other.norm()
            same += (way * other).sum()
    assert same / moved > 0.8


def test_similarities_under_autocast_are_as_fine_as_float32():
    head = SimilarityHead(32, relation=False)
    text = TextEmbeddings(torch.randn(1, 5, 32), None, torch.ones(1, 5, dtype=torch.bool),
                          torch.tensor([True]))
    queries, boxes = torch.randn(1, 40, 32), torch.rand(1, 40, 4)
    with torch.autocast('cpu', torch.bfloat16):
        logits = head(queries, boxes, text)
    # Values of bfloat16 have eight bits: next to none of these fits.
    assert logits.dtype == torch.float32
    assert (logits.bfloat16().float() != logits).float().mean() > 0.9


def test_other_types_are_refused():
    with pytest.raises(ValueError, match="'bfloat16', 'float16' or None, got 'float64'"):
        wrap([torch.nn.Parameter(torch.ones(1))], 'float64')


def test_none_computes_in_float32():
    layer = torch.nn.Linear(2, 2)
    for dtype, expected in ((None, torch.float32), ('bfloat16', torch.bfloat16)):
        with wrap(layer.parameters(), dtype).optim_context(layer):
            assert layer(torch.ones(1, 2)).dtype == expected
