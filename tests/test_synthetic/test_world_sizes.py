# Copyright (c) mvp_mm authors. All rights reserved.
"""A world grows without losing its images."""
from __future__ import annotations

import json

import pytest

from tests.tool_runs import run_tool

TOOL = 'tools/data/make_synthetic_world.py'


def make(folder, train, val, *options):
    return run_tool(TOOL, '--out', folder, '--train', train, '--val', val, *options)


def size(folder):
    found = json.loads((folder / 'world.json').read_text())['parameters']
    return found['train'], found['val']


@pytest.fixture
def world(tmp_path):
    assert make(tmp_path / 'world', 3, 2) == 0
    return tmp_path / 'world'


def test_a_larger_world_is_kept(world):
    before = (world / 'world.json').stat().st_mtime_ns
    assert make(world, 2, 1, '--at-least') == 0
    assert size(world) == (3, 2) and (world / 'world.json').stat().st_mtime_ns == before


def test_a_smaller_world_grows_and_keeps_its_images(world):
    images = {path.name: path.read_bytes() for path in world.glob('images/*/*')}
    assert make(world, 4, 1, '--at-least') == 0
    assert size(world) == (4, 2)
    grown = {path.name: path.read_bytes() for path in world.glob('images/*/*')}
    assert images.items() < grown.items()


def test_another_seed_is_not_replaced(world):
    assert 'another world' in make(world, 4, 2, '--at-least', '--seed', 1)
    assert size(world) == (3, 2)
