# Copyright (c) mvp_mm authors. All rights reserved.
"""Configs that several test files read."""
from __future__ import annotations

import pytest

from tests.test_configs.comparing import read


@pytest.fixture(scope='session')
def full():
    """The full-size configs by name; tests leave them as they are."""
    return {name: read(name) for name in ('stage1', 'stage2', 'plus/stage2')}
