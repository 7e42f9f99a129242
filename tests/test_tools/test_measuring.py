# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import mvp_mm.models  # noqa: F401  registers the components
from mvp_mm.engine import load_config
from mvp_mm.ops.cpu_kernel import load_kernel
from mvp_mm.registry import MODELS
from tests.helpers import ROOT, load_tool

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


@pytest.mark.parametrize('first', ['989', '--tiny'])
def test_one_command_runs_every_tool_that_needs_a_gpu(first, tmp_path, monkeypatch):
    stub, log = tmp_path / 'bin', tmp_path / 'log'
    stub.mkdir()
    for name in ('python', 'nvidia-smi'):
        (stub / name).write_text(f'#!/bin/sh\nfor word in {name} "$@"; do echo "$word"; done >> '
                                 f'"{log}"\n')
        (stub / name).chmod(0o755)
    subprocess.run(['bash', 'tools/analysis_tools/gpu_figures.sh', first, str(tmp_path / 'out')],
                   cwd=ROOT, check=True, capture_output=True,
                   env=dict(os.environ, PATH=f'{stub}:{os.environ["PATH"]}'))
    calls = [call.split('\n') for call in log.read_text().strip().split('python\n') if call]
    asked = calls.pop(0) if first != '--tiny' else ['']
    assert (asked[0] == 'nvidia-smi') == (first != '--tiny')
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    for path, *arguments in calls:
        monkeypatch.setattr(sys, 'argv', [path, *filter(None, arguments)])
        args = load_tool(path.removeprefix('tools/').removesuffix('.py')).parse_args()
        assert ('tiny' in args.config) == (first == '--tiny') if 'config' in args else args.out
    assert [Path(path).stem for path, *_ in calls] == [
        'benchmark_gpu', 'collect_gpu_figures', 'benchmark_deform_attention', 'benchmark']


def test_answers_are_timed_with_and_without_a_held_image(tmp_path, monkeypatch, capsys):
    Image.new('RGB', (48, 32)).save(tmp_path / 'image.png')
    out, threads = tmp_path / 'out.json', torch.get_num_threads()
    monkeypatch.setattr(sys, 'argv', [
        'x', str(ROOT / 'mvp_mm/weights/tiny'), str(tmp_path / 'image.png'), '--words', 'star',
        '--sides', '64', '--rounds', '1', '--starts', '0', '--out', str(out)])
    try:
        load_tool('analysis_tools/benchmark_answers').main()
    finally:
        torch.set_num_threads(threads)
    figures = json.loads(out.read_text())['figures']['plain']
    assert figures.keys() == {'file', '64'}
    for found in (part for parts in figures.values() for part in parts.values()):
        assert found['times'] == pytest.approx(found['first_ms'] / found['further_ms'], rel=1e-2)


def test_metrics_and_decoding_are_timed_beside_their_peers(tmp_path, monkeypatch):
    tool, threads = load_tool('analysis_tools/benchmark_metrics'), torch.get_num_threads()
    for name, value in (('HEIGHT', 48), ('WIDTH', 64), ('SIZE', (48, 64))):
        monkeypatch.setattr(tool, name, value)
    monkeypatch.setattr(sys, 'argv', ['x', '--rounds', '1', '--out', str(tmp_path / 'out.json')])
    try:
        tool.main()
    finally:
        torch.set_num_threads(threads)
    figures = json.loads((tmp_path / 'out.json').read_text())['figures']
    assert figures.keys() == {'pq', 'panoptic', 'res'}
    assert figures['pq']['made_up']['least'] <= figures['pq']['made_up']['most']
    assert list(figures['panoptic']) == ['25', '50', '100', '200']
