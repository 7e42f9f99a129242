# Copyright (c) mvp_mm authors. All rights reserved.
import re
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config

import mvp_mm.models  # noqa: F401  registers the components
from mvp_mm.registry import MODELS
from tests.helpers import ROOT

TINY = 'configs/mvplm/tiny/stage2.py'


def run(tool, *args):
    return subprocess.run([sys.executable, f'tools/analysis_tools/{tool}.py', *args], cwd=ROOT,
                          capture_output=True, text=True)


def table(out):
    """Parameters (M) and operations (G) by part."""
    rows = re.findall(r'^  (\w+) +([\de.+-]+) +([\de.+-]+)$', out, re.MULTILINE)
    return {part: (float(held), float(done)) for part, held, done in rows}


def test_parameters_and_operations_of_the_parts_add_up():
    done = run('get_flops', TINY, '--words', '5')
    assert done.returncode == 0, done.stderr
    parts = table(done.stdout)
    whole = parts.pop('all')
    model = MODELS.build(Config.fromfile(ROOT / TINY).model)
    held = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert whole[0] == pytest.approx(held, rel=1e-3)
    for column in (0, 1):
        total = sum(row[column] for row in parts.values())
        assert total == pytest.approx(whole[column], rel=2e-3)
    # A plain count of one part: two linear layers for each of 16 visual tokens.
    connector = model.connector.mlp
    products = 2 * 16 * sum(layer.weight.numel() for layer in connector
                            if isinstance(layer, torch.nn.Linear))
    assert parts['connector'][1] == pytest.approx(products / 1e9, rel=1e-3)


def test_benchmark_times_every_part():
    done = run('benchmark', TINY, '--images', '1', '--steps', '1', '--threads', '1')
    assert done.returncode == 0, done.stderr
    for part in ('encoder', 'LLM', 'pixel decoder', 'backward', 'optimizer', 'images/s'):
        assert part in done.stdout
