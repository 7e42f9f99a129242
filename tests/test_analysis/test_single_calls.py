# Copyright (c) mvp_mm authors. All rights reserved.
"""Compiled regions and captured graphs count as one operation per call."""
from __future__ import annotations

import pytest
import torch

from mvp_mm.analysis.operations import OperationCounter
from mvp_mm.analysis.single_calls import CAPTURED, COMPILED, SingleCalls
from mvp_mm.analysis.training_step import NARROW, MadeUpStep
from mvp_mm.engine.config_loading import load_config
from tests.helpers import ROOT

LAYERS = 2


@pytest.fixture(scope='module')
def counts():
    """Operations of a narrow stage-2 step of few layers: as it is, and with single calls."""
    cfg = load_config(ROOT / 'configs/mvplm/stage2.py')
    cfg.merge_from_dict({
        **NARROW, 'model.llm.config.num_hidden_layers': LAYERS,
        'model.pixel_decoder.num_layers': LAYERS, 'model.perception.decoder.num_layers': LAYERS,
        'model.encoder.backbone.depths': (1, 1, 1, 1)})
    torch._dynamo.reset()
    step = MadeUpStep.build(cfg, images=2, sentences=2, words=20)
    step.run()
    plain = step.count()
    calls = SingleCalls(step.model, ('llm', 'pixel_decoder'), capture_encoder=True)
    for _ in range(2):
        step.run()
    return plain, step.count(calls)


def test_what_runs_inside_a_single_call_is_counted_apart():
    with OperationCounter() as counter, counter.part('part'), counter.single('call'):
        torch.ones(3).sum().item()
    assert counter.parts['part'].names == {'call': 1} and not counter.total.waits
    assert counter.inside.dispatched == 3 and counter.inside.waits.total() == 1


def test_a_region_counts_once_per_layer_and_pass(counts):
    parts = counts[1].parts
    # The LLM runs sequences of two lengths apart, and again in the backward pass.
    assert parts['LLM'].names[COMPILED] == 2 * LAYERS
    assert parts['pixel decoder'].names[COMPILED] == LAYERS
    assert parts['backward: LLM'].names[COMPILED] == (2 + 2) * LAYERS
    assert parts['backward: pixel decoder'].names[COMPILED] == LAYERS


def test_the_encoder_counts_as_one_graph(counts):
    plain, single = counts
    assert single.parts['encoder'].names[CAPTURED] == 1
    assert single.parts['encoder'].dispatched < 20 < plain.parts['encoder'].dispatched


def test_nothing_is_lost_between_regions_and_the_rest(counts):
    plain, single = counts
    assert single.total.dispatched < 0.8 * plain.total.dispatched
    # The compiler's graphs have other operations than the layers have, not many fewer.
    outside = single.total.dispatched - single.total.names[COMPILED] - single.total.names[CAPTURED]
    assert single.inside.dispatched + outside > 0.7 * plain.total.dispatched
