# Copyright (c) mvp_mm authors. All rights reserved.
"""The released variant's full-size config."""
from __future__ import annotations

import pytest
import torch

from mvp_mm.engine import load_config
from mvp_mm.registry import MODELS
from tests.helpers import ROOT
from tests.test_configs.test_paper_settings import LinspaceOnCpu


@pytest.fixture(scope='module')
def config():
    return load_config(ROOT / 'configs/mvplm/released/stage2.py')


@pytest.fixture(scope='module')
def model(config):
    with torch.device('meta'), LinspaceOnCpu():
        return MODELS.build(config.model)


@pytest.mark.parametrize('part, millions', [
    ('encoder', 86.9),
    # Two 3 × 3 convolutions, a 1 × 1 and a linear layer between 1 024 and 2 048 channels.
    ('connector', (9 * 1024 * 2048 + 9 * 2048**2 + 1024 * 2048 + 2048**2 + 14336) / 1e6)])
def test_the_full_size_model_has_the_known_number_of_parameters(model, part, millions):
    count = sum(p.numel() for p in getattr(model, part).parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.1)


def test_the_llm_keeps_every_hidden_state_and_embeds_the_two_added_tokens(model):
    layers = model.llm.lm.config.num_hidden_layers
    assert model.llm.kept_layers == tuple(range(layers + 1))
    assert model.llm.vocab_size == 50295 + 2


def test_the_mix_is_the_released_one(config):
    shares = config.train_dataloader.sampler.ratios
    kinds = [d.type for d in config.train_dataloader.dataset.datasets]
    total = {kind: sum(s for s, k in zip(shares, kinds, strict=True) if k == kind)
             for kind in kinds}
    assert total['CocoPanopticDataset'] == total['RefCocoDataset'] == 6
    assert total['Objects365Dataset'] == 3 and total['GroundingDataset'] == 6


def test_no_part_of_the_papers_variant_is_left(config):
    text = str(config.model)
    for name in ('DynamicQueryGenerator', 'MultiGranularityDecoder', "'SimilarityHead'",
                 "'Denoising'", 'InstructionTokenizer', "'MSDeformPixelDecoder'"):
        assert name not in text
    assert 'InstructionTokenizer' not in str(config.train_dataloader)
    assert 'InstructionTokenizer' not in str(config.test_dataloader)
    assert 'InstructionTokenizer' not in str(config.inferencer)
