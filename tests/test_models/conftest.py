# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import pytest
import torch

from tests.helpers import save_tokenizer


@pytest.fixture(scope='session')
def tokenizer_path(tmp_path_factory):
    return save_tokenizer(tmp_path_factory.mktemp('tokenizer'))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
