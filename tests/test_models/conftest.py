# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import pytest
import torch

from tests.helpers import build_model, make_samples, save_tokenizer
from tests.test_models.mvp_lm_runs import perturb


@pytest.fixture(scope='session')
def tokenizer_path(tmp_path_factory):
    return save_tokenizer(tmp_path_factory.mktemp('tokenizer'))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope='module')
def shared(tokenizer_path):
    """Models that no test changes: without denoising and with it."""
    return dict(plain=perturb(build_model(tokenizer_path, perception=dict(denoising=None))),
                full=perturb(build_model(tokenizer_path)))


@pytest.fixture
def model(shared):
    shared['plain'].zero_grad(set_to_none=True)
    return shared['plain'].eval()


@pytest.fixture
def training_model(shared):
    shared['full'].zero_grad(set_to_none=True)
    return shared['full'].train()


@pytest.fixture
def samples(tokenizer_path):
    """``samples(*tasks, **arguments of make_samples)``: the tasks' samples of one image."""
    def make(*tasks, **args):
        return [s for task in tasks for s in make_samples(task, tokenizer_path, **args)]
    return make
