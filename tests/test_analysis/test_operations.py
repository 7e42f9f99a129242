# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mvp_mm.analysis.operations import REST, OperationCounter, table
from mvp_mm.analysis.training_step import NARROW, MadeUpStep
from mvp_mm.engine.config_loading import load_config
from tests.helpers import ROOT

BUDGET = Path(__file__).with_name('operation_budget.json')
# What a new version of a library or another batch may add.
SLACK = 1.05


class Layer:
    def run(self, x):
        return (x.double() * 2).sum()


SETTINGS = {
    'stage2': {},
    'bf16 weights, packed': {'model.llm.bf16_weights': True, 'model.llm.sequence_packing': True}}


def count_step(settings):
    """The operations of a stage-2 step with all layers, narrow: two images, six instructions."""
    cfg = load_config(ROOT / 'configs/mvplm/stage2.py', settings)
    cfg.merge_from_dict(NARROW)
    step = MadeUpStep.build(cfg, images=2, sentences=2, words=20)
    step.run()
    return step.count()


@pytest.fixture(scope='module', params=SETTINGS)
def budget_and_step(request):
    """What a step may dispatch, and what it does."""
    return json.loads(BUDGET.read_text())[request.param], count_step(SETTINGS[request.param])


def test_operations_count_for_the_innermost_part():
    layer, counter = Layer(), OperationCounter()
    with counter:
        counter.watch(layer, 'run', 'layer')
        torch.ones(3)
        layer.run(torch.ones(3))
    assert counter.parts[REST].names == {'ones': 2}
    assert counter.parts['layer'].names == {'_to_copy': 1, 'mul': 1, 'sum': 1}
    assert counter.parts['layer'].casts == 1
    assert counter.total.dispatched == 5


def test_the_backward_pass_counts_for_the_part_that_led_to_it():
    layer, counter = Layer(), OperationCounter()
    x = torch.ones(3, requires_grad=True)
    with counter:
        counter.watch(layer, 'run', 'layer')
        loss = layer.run(x.exp()).exp()
        with counter.backward_of(loss):
            loss.backward()
    forward = counter.parts['layer'].names
    assert forward == {'_to_copy': 1, 'mul': 1, 'sum': 1}
    assert counter.parts['backward: layer'].names == {'expand': 1, 'mul': 1, '_to_copy': 1}
    # A gradient of one to start with; what an exponential keeps is detached.
    assert counter.parts[f'backward: {REST}'].names == {'ones_like': 1, 'mul': 2, 'detach': 3}


def test_a_watched_method_is_its_own_again_afterwards():
    layer, counter = Layer(), OperationCounter()
    with counter:
        counter.watch(layer, 'run', 'layer')
    assert 'run' not in vars(layer)
    layer.run(torch.ones(3))
    assert not counter.total.dispatched


@pytest.mark.parametrize('wait', [
    lambda x: x.sum().item(), lambda x: bool(x.any()), lambda x: x.nonzero(), lambda x: x[x > 0],
    lambda x: x.tolist(), lambda x: x.cpu()])
def test_what_would_wait_for_a_gpu_is_counted(wait):
    with OperationCounter() as counter:
        wait(torch.ones(3))
    assert counter.total.waits.total() == 1


def test_operations_that_stay_on_the_device_wait_for_nothing():
    x = torch.ones(3)
    with OperationCounter() as counter:
        torch.where(x > 0, x, 0.0)[torch.tensor([0, 1])].sum()
    assert not counter.total.waits


def test_a_cast_counts_the_bytes_that_it_reads_and_writes():
    x = torch.ones(4, 4)
    with OperationCounter() as counter:
        x.bfloat16()
        torch._foreach_copy_([torch.empty(2, dtype=torch.float64)], [x[0, :2]])
    assert counter.total.casts == 2
    assert counter.total.cast_bytes == 64 + 32 + 2 * (4 + 8)


def test_bytes_are_those_of_tensors_read_and_written_without_views():
    x = torch.ones(4, 4)
    with OperationCounter() as counter:
        x.view(16).add(1.0)
    assert counter.total.bytes == 2 * 64


def test_no_part_of_a_training_step_dispatches_more_than_its_budget(budget_and_step):
    budget, step = budget_and_step
    found = {name: part.dispatched for name, part in step.parts.items()}
    assert found.keys() == budget['dispatched'].keys()
    for name, most in budget['dispatched'].items():
        assert found[name] <= SLACK * most, f'{name}: {found[name]} operations, budget {most}'
    assert step.total.casts <= SLACK * budget['casts']
    assert step.total.waits.total() <= budget['waits']


def test_the_budget_follows_what_has_become_cheaper(budget_and_step):
    budget, step = budget_and_step
    assert SLACK * step.total.dispatched >= sum(budget['dispatched'].values()), (
        f'lower {BUDGET.name}')


def test_the_table_has_a_row_for_every_part(budget_and_step):
    _, step = budget_and_step
    lines = table(step.parts, step.total).splitlines()
    assert [line.split('|')[1].strip() for line in lines[2:]] == [*step.parts, 'all']
