# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from torch.utils.checkpoint import checkpoint

from mvp_mm.analysis.memory import MemoryCounter, _no_numbers, step_memory
from mvp_mm.engine.config_loading import load_config
from mvp_mm.models.encoders import swin
from mvp_mm.ops import deformable_attention
from tests.helpers import ROOT

BUDGET = Path(__file__).with_name('memory_budget.json')
SLACK = 1.05


# Settings of a step that holds little.
LITTLE = {'model.llm.bf16_weights': True, 'model.pixel_decoder.gradient_checkpointing': True,
          'model.perception.decoder.gradient_checkpointing': True}


@pytest.fixture(scope='module', params=['stage2', 'little memory'])
def budget_and_found(request):
    """GiB of the paper's stage-2 step: 8 images of 1024 x 1024 with 24 instructions."""
    cfg = load_config(ROOT / 'configs/mvplm/stage2.py',
                      LITTLE if request.param == 'little memory' else {})
    init_default_scope('mvp_mm')
    attention, kernel = F.scaled_dot_product_attention, deformable_attention.sample_and_sum
    kept_masks = swin.shift_mask.cache_info().currsize
    memory = step_memory(cfg, images=8)
    assert swin.shift_mask.cache_info().currsize == kept_masks
    assert F.scaled_dot_product_attention is attention
    assert deformable_attention.sample_and_sum is kernel
    found = {name: size / 2**30 for name, size in vars(memory).items()}
    return json.loads(BUDGET.read_text())[request.param], found


def test_storages_count_for_as_long_as_they_live():
    with MemoryCounter() as counter:
        x = torch.ones(4, 4)
        y = x.view(16)
        assert counter.held == 64
        z = y + 1
        assert counter.held == 128
        del x, y
        assert counter.held == 64
    del z
    assert counter.held == 0 and counter.peak == 128


def test_what_the_backward_pass_needs_is_held_until_then():
    x = torch.ones(8, requires_grad=True)
    with MemoryCounter() as counter:
        loss = x.exp().sum()
        assert counter.held == 32 + 4
        loss.backward()
        del loss
    # The gradient alone.
    assert counter.held == 32


def test_a_step_at_full_size_holds_no_more_than_its_budget(budget_and_found):
    budget, found = budget_and_found
    for name, most in budget.items():
        assert found[name] <= SLACK * most, f'{name}: {found[name]:.2f} GiB, budget {most}'


def test_the_budget_follows_what_has_become_smaller(budget_and_found):
    budget, found = budget_and_found
    assert SLACK * found['peak'] >= budget['peak'], f'lower {BUDGET.name}'


def test_weights_and_states_are_those_of_the_parameters(budget_and_found):
    _, found = budget_and_found
    # Of 1 549 M parameters in float32 all but the encoder's 86.9 M train.
    assert found['weights'] * 2**30 == pytest.approx(4 * 1549e6, rel=0.002)
    assert found['gradients'] * 2**30 == pytest.approx(4 * (1549 - 86.9) * 1e6, rel=0.002)
    assert found['optimizer'] == pytest.approx(2 * found['gradients'])


def test_a_checkpointed_layer_keeps_nothing_of_its_kernels():
    def held(layer):
        x = torch.zeros(1, 2, 8, 4, requires_grad=True)
        with MemoryCounter() as counter:
            out = layer(x * 2)
            return counter.held, out

    def attend(x):
        return F.scaled_dot_product_attention(x, x + 1, x + 2)

    with _no_numbers():
        kept, _ = held(attend)
        again, _ = held(partial(
            checkpoint, attend, use_reentrant=False, preserve_rng_state=False))
    # The input and the output, of 256 bytes each.
    assert again == 512 < kept
