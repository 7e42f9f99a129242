# Copyright (c) mvp_mm authors. All rights reserved.
"""The benchmark configs, and all of them run on miniature trees by one command."""
import json
import math
import sys

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from tests.benchmark_root import enter
from tests.helpers import ROOT
from tests.test_datasets.miniature import load_tool

EVAL = ROOT / 'configs/mvplm/eval'
FAMILIES = {
    'refcoco': ('refcoco_', ('val', 'testA', 'testB')),
    'refcoco_plus': ('refcoco+_', ('val', 'testA', 'testB')),
    'refcocog': ('refcocog_', ('val', 'test')),
    'grefcoco': ('grefcoco_', ('val', 'testA', 'testB')),
}


def members(name):
    """Names of the data sets that a thin config should hold."""
    if name not in FAMILIES:
        return {name}
    start, splits = FAMILIES[name]
    ends = ('', '_joined') if start.startswith('ref') else ('',)
    return {f'{start}{split}{end}' for split in splits for end in ends}


THIN = sorted(path.stem for path in EVAL.glob('*.py') if path.stem != 'all')


@pytest.fixture(scope='module')
def everything():
    return Config.fromfile(EVAL / 'all.py')


@pytest.mark.parametrize('name', THIN)
def test_a_thin_config_is_its_part_of_all(everything, name):
    cfg = Config.fromfile(EVAL / f'{name}.py')
    assert set(cfg.test_dataloader) == set(cfg.test_evaluator) == members(name)
    for key in members(name):
        assert cfg.test_dataloader[key] == everything.test_dataloader[key]
        assert cfg.test_evaluator[key] == everything.test_evaluator[key]


def test_the_thin_configs_make_all(everything):
    assert set.union(*map(members, THIN)) == set(everything.test_dataloader)


def test_the_model_is_the_full_size_one_and_nothing_trains_differently(everything):
    stage2 = Config.fromfile(ROOT / 'configs/mvplm/stage2.py')
    differing = {key for key in everything.keys() | stage2.keys()
                 if not key.startswith('_') and everything.get(key) != stage2.get(key)}
    assert differing == {'test_dataloader', 'test_evaluator'}


def test_no_evaluation_repeats_samples_or_trains(everything):
    for loader in everything.test_dataloader.values():
        assert not loader.sampler.shuffle and not loader.sampler.round_up
        assert loader.dataset.test_mode
        assert loader.dataset.pipeline[0].training is False
        assert loader.dataset.pipeline[-1].with_eval


def test_every_question_leaves_room_for_the_response(everything):
    rooms = {loader.dataset.pipeline[0].response_room
             for loader in everything.test_dataloader.values()}
    assert rooms == {everything.model.max_response_tokens}


@pytest.fixture(scope='module')
def scored(tmp_path_factory):
    """Metrics of the tiny model on all benchmarks, by one command in a folder with its data."""
    root = tmp_path_factory.mktemp('benchmarks')
    with pytest.MonkeyPatch.context() as patch:
        enter(root, patch)
        patch.setattr(sys, 'argv', ['test', str(EVAL / 'all.py'), 'model.pth'])
        load_tool('test').main()
    DefaultScope._instance_dict.clear()
    return json.loads((root / 'work_dirs/all/metrics.json').read_text())


def test_all_benchmarks_are_scored_by_one_command(everything, scored):
    assert {key.split('/')[0] for key in scored} == set(everything.test_dataloader)


@pytest.mark.parametrize('key', [
    *(f'{name}/{metric}' for name in ('coco_panoptic', 'ade20k', 'cityscapes')
      for metric in ('panoptic/PQ', 'panoptic/PQ_th', 'panoptic/PQ_st', 'semantic/mIoU',
                     'coco/bbox_AP', 'coco/segm_AP')),
    'coco_instance/coco/bbox_AP', 'coco_instance/coco/segm_AP', 'pascal_context59/semantic/mIoU',
    'pascal_voc20/semantic/mIoU', 'refcoco+_testA/referring/cIoU', 'refcocog_test/referring/REC',
    'refcoco_testB_joined/referring/gIoU', 'refcoco_val/referring/P@0.9',
    'grefcoco_testB/generalized/N-acc', 'grefcoco_val/generalized/box_F1',
    'lvis/lvis/bbox_AP', 'lvis/lvis/segm_AP', 'flickr30k/grounding/R@10'])
def test_a_benchmark_reports_its_figures(scored, key):
    assert 0 <= scored[key] <= 100


def test_every_figure_is_a_number(scored):
    assert not [key for key, value in scored.items() if not math.isfinite(value)]
