# Copyright (c) mvp_mm authors. All rights reserved.
"""Figures of a GPU reach result files whole, and ratios are computed."""
from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from mvp_mm.analysis.gpu_figures import summary_of
from mvp_mm.analysis.gpu_report import OTHER_KERNELS, against_peer, sections_of, summed_by_kind
from tests.helpers import ROOT
from tests.tool_runs import run_tool

TOOL = 'tools/analysis_tools/collect_gpu_figures.py'
RUN = {
    'surroundings': dict(device='a GPU', torch='2', commit='abc', config='c.py', images='8',
                         section_seconds=0.1),
    'built': dict(seconds=1.0, section_seconds=0.0),
    'step plain: waits': dict(waits=3, section_seconds=0.1),
    'step accelerated, panoptic': dict(ms=500.0, gib=30.0, section_seconds=1.0),
    'step + compiled decoder': dict(skipped='2 s left', section_seconds=0.0),
    'same bits twice': dict(error='RuntimeError: no', trace='…', section_seconds=0.1)}


def test_sections_without_a_result_are_named_with_their_reason():
    measured, missing = sections_of(RUN)
    assert measured == {'step plain, waits': dict(waits=3),
                        'step accelerated, panoptic': dict(ms=500.0, gib=30.0)}
    assert missing == {'step + compiled decoder': '2 s left', 'same bits twice': 'RuntimeError: no'}


def test_kernels_are_added_up_by_kind_and_ranges_are_not_counted_twice():
    found = summed_by_kind(dict(device_ms=100.0, kernels=9, longest={
        'void ms_deformable_col2im_gpu': [30.0, 3], 'nvjet_a': [20.0, 2], 'xmma_gemm_b': [5.0, 1],
        'Optimizer.step#AdamW.step': [8.0, 1], 'multi_tensor_apply_kernel': [7.0, 2],
        'layer_norm': [4.0, 1]}))
    assert found['device_ms'] == 92.0 and found['rest'] == 26.0
    assert found['kinds'] == {'deformable attention, backward': 30.0, 'matrix products': 25.0,
                              'optimizer': 7.0, OTHER_KERNELS: 4.0}


def test_a_profile_adds_up_kernels_of_one_name_and_leaves_ranges_out():
    def event(key, us, count, marked=False):
        return SimpleNamespace(key=key, self_device_time_total=us, count=count,
                               device_type=SimpleNamespace(name='CUDA'), is_user_annotation=marked)
    alike = 'k' * 90
    found = summary_of([event(alike + 'a', 3000, 2), event(alike + 'b', 1000, 1),
                        event('short', 2000, 5), event('range', 9000, 1, marked=True)], most=1)
    assert found == dict(device_ms=6.0, kernels=8, longest={alike: [4.0, 3]})


def test_a_ratio_is_their_time_by_ours_and_our_memory_by_theirs():
    found = against_peer(dict(panoptic=dict(ms=500.0, gib=30.0)), dict(
        panoptic=dict(ms=2000.0, gib=40.0), referring=dict(ms=1.0, gib=1.0)))
    assert found == dict(panoptic=dict(faster=4.0, memory=0.75))


def test_runs_and_the_record_become_one_result_file(tmp_path):
    (tmp_path / 'run.json').write_text(json.dumps(RUN))
    record = dict(commit='old', figures=dict(
        before=dict(step=dict(ms=9)), released=dict(panoptic=dict(ms=1000, gib=60.0))))
    (tmp_path / 'record.json').write_text(json.dumps(record))
    out = tmp_path / 'out.json'
    assert run_tool(TOOL, f'training={tmp_path / "run.json"}', '--record',
                    tmp_path / 'record.json', '--out', out) == 0
    found = json.loads(out.read_text())
    assert found['commit'] == ['abc'] and found['hardware']['gpus'] == ['a GPU']
    assert found['runs']['training']['not_measured'].keys() == {
        'step + compiled decoder', 'same bits twice'}
    assert found['record'] == dict(commit='old')
    assert found['figures']['against_released'] == dict(panoptic=dict(faster=2.0, memory=0.5))


def test_a_file_that_is_missing_is_one_line(tmp_path):
    assert 'nowhere.json' in run_tool(
        TOOL, 'a=nowhere.json', '--record', ROOT / 'results/gpu_record.json', '--out',
        tmp_path / 'x.json')


@pytest.mark.parametrize('kind', ['panoptic', 'referring', 'detection'])
def test_the_result_file_holds_the_record_beside_what_was_measured(kind):
    figures, record = (json.loads((ROOT / f'results/{name}.json').read_text())['figures']
                       for name in ('gpu', 'gpu_record'))
    theirs, ours = record['released'][kind], figures['training'][f'step accelerated, {kind}']
    assert figures['released'] == record['released']
    assert figures['against_released'][kind]['faster'] == round(theirs['ms'] / ours['ms'], 2)
