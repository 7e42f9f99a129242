# Copyright (c) mvp_mm authors. All rights reserved.
"""The page on scale holds what its script computes from the measured parts."""
from __future__ import annotations

import json

import pytest

from tests.helpers import ROOT, load_tool

PAGE = (ROOT / 'docs/reference/scale.md').read_text()
MEASURED = json.loads((ROOT / 'docs/reference/scale.json').read_text())


@pytest.fixture(scope='module')
def tool():
    return load_tool('analysis_tools/estimate_scale')


def test_the_page_holds_the_tables_that_the_script_prints(tool):
    assert tool.report(MEASURED, [1, 8, 64]) in PAGE


def test_the_step_is_the_one_of_the_result_file():
    found, whole = json.loads((ROOT / 'results/gpu.json').read_text()), MEASURED['stage2_pass']
    step = found['figures']['training']['step plain']
    assert whole['seconds'] == pytest.approx(step['ms'] / 1000)
    assert whole['memory_gib'] == step['gib']
    assert found['runs']['training']['commit'].startswith(whole['commit'])


def test_measured_sizes_come_out_as_they_were_measured(tool):
    _, second = tool.stages(MEASURED)
    whole = MEASURED['stage2_pass']
    assert second.seconds(whole['images']) == pytest.approx(whole['seconds'])
    row = second.at(1)
    assert row['images/s'] == f'{whole["images"] / whole["seconds"]:.1f}'
    assert row['DDP, GiB'] == f'{whole["memory_gib"]:.0f}'


def test_hours_are_steps_times_seconds(tool):
    _, second = tool.stages(MEASURED)
    passes = second.images / second.images_per_pass
    assert second.at(1)['hours'] == f'{second.steps * passes * second.seconds(8) / 3600:.0f}'


def test_a_line_goes_through_both_measurements_and_never_below_the_larger_ones_rate(tool):
    pair = {'4': 0.5, '8': 0.6}
    assert [tool.interpolate(pair, n) for n in (4, 6, 8)] == pytest.approx([0.5, 0.55, 0.6])
    assert tool.interpolate(pair, 80) == pytest.approx(6.0)


def test_one_gpu_sends_nothing_and_sharding_divides_states_alone(tool):
    _, second = tool.stages(MEASURED)
    assert second.at(1)['GB sent per GPU and step'] == '0'
    eight = second.at(8)
    saved = 16 * second.trained * 7 / 8 / 2**30
    assert float(eight['DDP, GiB']) - float(eight['FSDP, GiB']) == pytest.approx(saved, abs=1)
