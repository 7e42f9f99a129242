# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import torch

import mvp_mm.models  # noqa: F401  registers the components
from mvp_mm.engine import load_config
from mvp_mm.ops.cpu_kernel import load_kernel
from mvp_mm.registry import MODELS
from tests.helpers import ROOT

TINY = 'configs/mvplm/tiny/stage2.py'


def run(tool, *args):
    return subprocess.run([sys.executable, f'tools/analysis_tools/{tool}.py', *args], cwd=ROOT,
                          capture_output=True, text=True)


def table(out):
    """Parameters (M), operations (G) and seconds by part."""
    rows = re.findall(r'^  (\w+)' + r' +([\de.+-]+)' * 3 + '$', out, re.MULTILINE)
    return {part: tuple(map(float, values)) for part, *values in rows}


def test_parameters_and_operations_of_the_parts_add_up():
    done = run('get_flops', TINY, '--words', '5')
    assert done.returncode == 0, done.stderr
    parts = table(done.stdout)
    whole = parts.pop('all')
    model = MODELS.build(load_config(ROOT / TINY).model)
    held = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert whole[0] == pytest.approx(held, rel=1e-3)
    for column, slack in ((0, 0), (1, 0), (2, 0.05)):
        total = sum(row[column] for row in parts.values())
        assert total == pytest.approx(whole[column], rel=2e-3, abs=slack)
    # A plain count of one part: two linear layers for each of 16 visual tokens.
    connector = model.connector.mlp
    products = 2 * 16 * sum(layer.weight.numel() for layer in connector
                            if isinstance(layer, torch.nn.Linear))
    assert parts['connector'][1] == pytest.approx(products / 1e9, rel=1e-3)


def test_benchmark_times_every_part_and_whole_steps(tmp_path):
    done = run('benchmark', TINY, '--images', '1', '--steps', '1', '--threads', '1',
               '--peak-tflops', '1', '--profile', str(tmp_path / 'profile.txt'))
    assert done.returncode == 0, done.stderr
    for part in ('encoder', 'LLM', 'pixel decoder', 'backward', 'optimizer', 'whole steps',
                 'GiB held', '% of 1 x 10^12'):
        assert part in done.stdout
    assert 'aten::' in (tmp_path / 'profile.txt').read_text()


def test_inference_is_timed_with_and_without_thinking():
    done = run('benchmark_inference', TINY, '--images', '1', '2', '--steps', '1', '--words', '5',
               '--dtype', 'bfloat16')
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('nothing written') == done.stdout.count('tokens written') == 2


def test_figures_of_a_gpu_are_written_section_by_section_until_the_time_is_over(tmp_path):
    done = run('benchmark_gpu', '--tiny', '--seconds', '12', '--out', str(tmp_path / 'out.json'))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / 'out.json').read_text())
    assert not [name for name, section in found.items() if 'error' in section]
    assert found['surroundings']['config'] == 'configs/mvplm/tiny/stage2.py'
    assert found['answers plain, batch 1']['ms'] > 0
    assert 'skipped' in found['step + compiled decoder']


@pytest.mark.skipif(load_kernel() is None, reason='the CPU kernel is not built')
def test_the_kernel_of_deformable_attention_is_compared():
    done = run('benchmark_deform_attention', TINY, '--steps', '1')
    assert done.returncode == 0, done.stderr
    gaps = [float(gap) for gap in re.findall(r'largest difference ([\d.e+-]+)', done.stdout)]
    assert len(gaps) == 4 and max(gaps) < 1e-5


def test_matcher_and_criterion_are_timed_beside_mmdet_s():
    done = run('benchmark_criterion', '--sets', '2', '--images', '1', '--queries', '5',
               '--objects', '2', '--phrases', '3', '--side', '128', '--points', '50',
               '--steps', '1')
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('ratio') == 2
