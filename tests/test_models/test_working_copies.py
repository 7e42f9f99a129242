# Copyright (c) mvp_mm authors. All rights reserved.
"""An LLM that trains on bfloat16 copies of float32 weights."""
from __future__ import annotations

import copy

import pytest
import torch

from mvp_mm.models.llms import CausalLM
from mvp_mm.models.llms.building import decoder_layers
from tests.test_models.llms import MODELS, SIZES, make_prompts

LORA = dict(r=4, alpha=8.0)


def build(family='phi', **settings):
    torch.manual_seed(0)
    return CausalLM({**SIZES, **MODELS[family], 'initializer_range': 0.3}, **settings).train()


def run(llm, autocast=True, seed=0):
    """Loss and gradients of a fixed function of the states, float32."""
    torch.manual_seed(seed)
    embeds, mask = make_prompts()
    weight = torch.randn(*embeds.shape) * mask[..., None]
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        states = llm(embeds, mask)
    loss = sum((s.float().tanh() * weight).sum() for s in states)
    loss.backward()
    return states, {n: p.grad.clone() for n, p in llm.named_parameters() if p.grad is not None}


def error(found, expected):
    """Norm of the difference of all gradients by the norm of the gradients."""
    assert found.keys() == expected.keys()
    difference = sum((found[n] - g).square().sum() for n, g in expected.items())
    return float((difference / sum(g.square().sum() for g in expected.values())).sqrt())


@pytest.mark.parametrize('settings', [{}, dict(lora=LORA)], ids=['all', 'lora'])
@pytest.mark.parametrize('family', MODELS)
def test_states_and_gradients_are_within_the_error_of_bfloat16(family, settings):
    plain = build(family, **settings)
    # Adapters begin at zero, which would hide their gradients.
    for name, parameter in plain.named_parameters():
        if 'lora_B' in name:
            torch.nn.init.normal_(parameter, std=0.3)
    inside = copy.deepcopy(plain)
    ours = build(family, bf16_weights=True, **settings)
    ours.load_state_dict(plain.state_dict())
    states, expected = run(plain, autocast=False)
    _, near = run(inside)
    found, gradients = run(ours)
    assert all(s.dtype == torch.float32 for s in found)
    assert all(g.dtype == torch.float32 for g in gradients.values())
    mask = make_prompts()[1]
    for a, b in zip(found, states, strict=True):
        assert (a - b)[mask].norm() <= 0.03 * b[mask].norm()
    assert 0 < error(gradients, expected) <= max(2 * error(near, expected), 0.03)


def test_gradient_checkpointing_changes_nothing():
    _, kept = run(build(bf16_weights=True))
    _, again = run(build(bf16_weights=True, gradient_checkpointing=True))
    assert kept.keys() == again.keys() and all(torch.equal(kept[n], again[n]) for n in kept)


def test_passes_of_a_step_add_up_in_float32():
    llm = build(bf16_weights=True)
    _, first = run(llm)
    _, both = run(llm, seed=1)
    llm.zero_grad()
    _, second = run(llm, seed=1)
    assert all(torch.equal(both[n], first[n] + second[n]) for n in both)


def test_updates_below_the_precision_of_bfloat16_are_not_lost():
    llm = build(bf16_weights=True)
    optimizer = torch.optim.SGD(llm.parameters(), lr=1.0)
    weight = decoder_layers(llm.lm)[0].mlp.fc1.weight
    before = weight.detach().clone()
    for _ in range(8):
        optimizer.zero_grad()
        run(llm)
        weight.grad = before * 1e-4
        for parameter in llm.parameters():
            if parameter is not weight:
                parameter.grad = None
        optimizer.step()
    torch.testing.assert_close(weight.detach(), before * (1 - 8e-4), rtol=1e-5, atol=0)


def test_copies_follow_the_weights():
    llm = build(bf16_weights=True)
    first = run(llm)[0][-1]
    with torch.no_grad():
        for parameter in decoder_layers(llm.lm).parameters():
            parameter.mul_(1.5)
    assert not torch.equal(run(llm)[0][-1], first)


def test_checkpoints_hold_the_same_tensors_with_and_without():
    plain, ours = build(), build(bf16_weights=True)
    run(ours)
    state = ours.state_dict()
    assert state.keys() == plain.state_dict().keys()
    for name, value in plain.state_dict().items():
        assert torch.equal(state[name], value), name


def test_answers_are_read_from_the_float32_weights():
    plain, ours = build(), build(bf16_weights=True)
    run(ours)
    copy.deepcopy(ours.eval())
    embeds, mask = make_prompts()
    with torch.no_grad():
        found, expected = (llm.eval()(embeds, mask)[-1] for llm in (ours, plain))
    assert torch.equal(found[mask], expected[mask])


def test_frozen_weights_beside_adapters_get_no_gradient():
    llm = build(bf16_weights=True, lora=LORA)
    _, gradients = run(llm)
    assert gradients and all('lora_' in name for name in gradients)


def test_all_layers_compute_in_bfloat16():
    llm = build(bf16_weights=True, split_by_length=False)
    seen = []
    for layer in decoder_layers(llm.lm):
        layer.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
        layer.mlp.fc1.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    run(llm)
    assert seen == [torch.bfloat16] * 4


def test_compiled_layers_read_the_copies():
    plain, compiled = (build(bf16_weights=True, gradient_checkpointing=True) for _ in range(2))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    for layer in decoder_layers(compiled.lm):
        layer.compile(dynamic=True, backend='eager')
    counters, graphs = torch._dynamo.utils.counters, []
    for seed in range(3):
        expected, found = run(plain, seed=seed), run(compiled, seed=seed)
        assert error(found[1], expected[1]) < 0.01
        graphs.append(counters['stats']['unique_graphs'])
        with torch.no_grad():
            for llm in (plain, compiled):
                for parameter in llm.parameters():
                    parameter.add_(0.01)
    # New copies in every step are no reason to compile again.
    assert not counters['graph_break'] and graphs[0] == graphs[-1]


def test_a_sharded_llm_is_refused():
    with pytest.raises(ValueError, match='llm.bf16_weights: a sharded LLM'):
        build(bf16_weights=True, split_by_length=False).shard_units()

