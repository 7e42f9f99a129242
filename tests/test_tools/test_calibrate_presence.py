# Copyright (c) mvp_mm authors. All rights reserved.
"""The tool that chooses the presence threshold of generalized referring."""
from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

from tests.benchmark_root import ALL, enter
from tests.helpers import ROOT


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A folder with data and weights; the tool is importable there."""
    root = tmp_path_factory.mktemp('presence')
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / 'tools/analysis_tools'))
        enter(root, patch)
        yield root
    DefaultScope._instance_dict.clear()


def calibrate(monkeypatch, dataset, *options):
    tool = importlib.import_module('calibrate_presence')
    monkeypatch.setattr(sys, 'argv', [
        'x', str(ALL), 'model.pth', '--dataset', dataset, '--out', 'out.json', *options])
    level = MMLogger.get_current_instance().level
    try:
        tool.main()
    finally:
        MMLogger.get_current_instance().setLevel(level)
    return json.loads(Path('out.json').read_text())['figures']


def test_the_configs_threshold_is_compared_with_the_balanced_one(place, monkeypatch):
    found = calibrate(monkeypatch, 'grefcoco_val', '--cfg-options',
                      'test_dataloader.grefcoco_val.dataset.tasks.0.presence_thr=1.0')
    assert found['config'] == {'threshold': 1.0, 'N-acc': 100.0, 'T-acc': 0.0, 'MCC': 0.0}
    assert 0 < found['with_target'] < found['sentences']
    assert 0 <= found['balanced']['threshold'] <= 1
    assert 0 <= found['area_of_best_query'] <= 1
    assert found['balanced']['N-acc'] + found['balanced']['T-acc'] >= 100


def test_without_a_threshold_the_config_answers_by_the_score_of_a_query(place, monkeypatch):
    found = calibrate(monkeypatch, 'grefcoco_val', '--cfg-options',
                      'test_dataloader.grefcoco_val.dataset.tasks.0.score_thr=0')
    assert found['config'] == {'threshold': 0, 'N-acc': 0.0, 'T-acc': 100.0, 'MCC': 0.0}


def test_a_dataset_that_does_not_ask_generalized_referring_is_refused(place, monkeypatch):
    with pytest.raises(SystemExit, match='refcoco_val asks referring_segmentation'):
        calibrate(monkeypatch, 'refcoco_val')
