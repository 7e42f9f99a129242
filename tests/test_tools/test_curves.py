# Copyright (c) mvp_mm authors. All rights reserved.
"""Curves of a run, and metrics of several tests, as a newcomer sees them."""
from __future__ import annotations

import json
import sys

import pytest

from tests.helpers import load_tool


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a tool; return what it prints."""
    def run(name, *arguments):
        monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
        load_tool(f'analysis_tools/{name}').main()
        return capsys.readouterr().out
    return run


@pytest.fixture
def run_folder(tmp_path):
    """A run that has logged the losses 1, 2, …, 8."""
    folder = tmp_path / 'short/20270101/vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text(''.join(
        json.dumps(dict(step=step, loss=float(step), lr=0.1)) + '\n' for step in range(1, 9)))
    return tmp_path / 'short'


def test_ends_of_a_curve_are_compared_by_their_means(call, run_folder, tmp_path):
    out = tmp_path / 'curves.png'
    printed = call('plot_curves', run_folder, '--out', out, '--mean', 4, '--log')
    assert out.stat().st_size
    assert '2.50 ± 0.65 over steps 1 to 4, 6.50 ± 0.65 over steps 5 to 8' in printed


def test_without_a_mean_the_first_and_the_last_value_are_told(call, run_folder, tmp_path):
    printed = call('plot_curves', run_folder, '--out', tmp_path / 'curves.png')
    assert 'loss 1.00 at step 1, 8.00 at step 8' in printed


def test_metrics_of_several_tests_stand_side_by_side(call, tmp_path):
    (tmp_path / 'before.json').write_text(json.dumps({'x/panoptic/PQ': 91.5, 'x/other': 1}))
    (tmp_path / 'after.json').write_text(json.dumps({'x/panoptic/PQ': 90, 'y/segm_AP': 3}))
    printed = call('summarize_metrics', tmp_path / 'before.json', tmp_path / 'after.json',
                   '--brief')
    rows = [line.split() for line in printed.splitlines()]
    assert rows == [['before', 'after'], ['x/panoptic/PQ', '91.50', '90.00'],
                    ['y/segm_AP', '-', '3.00']]
    assert call('summarize_metrics', tmp_path / 'after.json', '--brief').splitlines() == [
        'x/panoptic/PQ    90.00', 'y/segm_AP         3.00']
