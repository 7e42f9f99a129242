# Copyright (c) mvp_mm authors. All rights reserved.
"""A small drawn world for the tests of this folder."""
from __future__ import annotations

import pytest

from mvp_mm.synthetic import WorldParameters, make_world

PARAMETERS = WorldParameters(seed=7, train=40, val=24)


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Folder of a small world."""
    out = tmp_path_factory.mktemp('world') / 'synthetic'
    make_world(out, PARAMETERS)
    return out
