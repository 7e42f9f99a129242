# Copyright (c) mvp_mm authors. All rights reserved.
"""The benchmark configs, and all of them run on miniature trees by one command."""
from __future__ import annotations

import json
import math
import sys

import pytest
from mmengine.registry import DefaultScope

from mvp_mm.engine import load_config
from mvp_mm.registry import DATASETS, METRICS
from tests.benchmark_root import enter
from tests.helpers import ROOT, load_tool
from tests.test_datasets.miniature import write_coco
from tests.test_evaluation.test_real_data import score_dataset

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
    return load_config(EVAL / 'all.py')


@pytest.mark.parametrize('name', THIN)
def test_a_thin_config_is_its_part_of_all(everything, name):
    cfg = load_config(EVAL / f'{name}.py')
    assert set(cfg.test_dataloader) == set(cfg.test_evaluator) == members(name)
    for key in members(name):
        assert cfg.test_dataloader[key] == everything.test_dataloader[key]
        assert cfg.test_evaluator[key] == everything.test_evaluator[key]


def test_the_thin_configs_make_all(everything):
    assert set.union(*map(members, THIN)) == set(everything.test_dataloader)


def test_the_model_is_the_full_size_one_and_nothing_trains_differently(everything):
    stage2 = load_config(ROOT / 'configs/mvplm/stage2.py')
    differing = {key for key in everything.keys() | stage2.keys()
                 if everything.get(key) != stage2.get(key)}
    assert differing == {'test_dataloader', 'test_evaluator',
                         'val_dataloader', 'val_evaluator', 'val_cfg'}
    assert everything.get('val_dataloader') is None


def test_ap_is_taken_on_instances_outside_coco(everything):
    having = {name for name, metrics in everything.test_evaluator.items()
              if any(metric.type == 'CocoAPMetric' for metric in metrics)}
    assert having == {'coco_panoptic', 'coco_instance', 'ade20k_instance', 'cityscapes_instance'}
    assert everything.test_dataloader.ade20k_instance.dataset.type == 'CocoInstanceDataset'


def test_the_lvis_truth_follows_an_overridden_root(everything, tmp_path):
    write_coco(tmp_path)
    loader, evaluator = everything.test_dataloader.lvis, everything.test_evaluator.lvis
    dataset = DATASETS.build(dict(loader.dataset, data_root=str(tmp_path), pipeline=[]))
    metric = METRICS.build(dict(evaluator[0]))
    metric.dataset_meta = dataset.metainfo
    assert metric.dataset_meta['ann_file'] == str(tmp_path / 'annotations/lvis_v1_val.json')
    assert metric.ann_file is None


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


# Panoptic and semantic maps, instances by COCO's and by LVIS's rules, sentences of both kinds.
ANSWERED = ('ade20k', 'pascal_voc20', 'cityscapes_instance', 'lvis', 'refcoco_val_joined',
            'grefcoco_val')


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """Where all benchmarks were run: the tiny model by one command, and the truth as answer."""
    root = tmp_path_factory.mktemp('benchmarks')
    with pytest.MonkeyPatch.context() as patch:
        cfg = enter(root, patch)
        patch.setattr(sys, 'argv', ['test', str(EVAL / 'all.py'), 'model.pth'])
        load_tool('test').main()
        perfect = {name: score_dataset(
            cfg.test_dataloader[name].dataset.to_dict(),
            [METRICS.build(dict(metric)) for metric in cfg.test_evaluator[name]])
            for name in ANSWERED}
    DefaultScope._instance_dict.clear()
    (root / 'perfect.json').write_text(json.dumps(perfect))
    return root


@pytest.fixture(scope='module')
def scored(root):
    return json.loads((root / 'work_dirs/eval/all/metrics.json').read_text())


@pytest.mark.parametrize('name', ANSWERED)
def test_the_truth_as_answer_is_perfect(root, name):
    found = json.loads((root / 'perfect.json').read_text())[name]
    assert found and found == pytest.approx(dict.fromkeys(found, 100.))


def test_metrics_name_their_model(root):
    assert json.loads((root / 'work_dirs/eval/all/metrics.source.json').read_text()) == dict(
        config=str(EVAL / 'all.py'), checkpoint='model.pth')


def test_all_benchmarks_are_scored_by_one_command(everything, scored):
    assert {key.split('/')[0] for key in scored} == set(everything.test_dataloader)


@pytest.mark.parametrize('key', [
    *(f'{name}/{metric}' for name in ('coco_panoptic', 'ade20k', 'cityscapes')
      for metric in ('panoptic/PQ', 'panoptic/PQ_th', 'panoptic/PQ_st', 'semantic/mIoU'
)),
    *(f'{name}/coco/{kind}_AP' for name in (
        'coco_panoptic', 'coco_instance', 'ade20k_instance', 'cityscapes_instance')
      for kind in ('bbox', 'segm')), 'pascal_context59/semantic/mIoU',
    'pascal_voc20/semantic/mIoU', 'refcoco+_testA/referring/cIoU', 'refcocog_test/referring/REC',
    'refcoco_testB_joined/referring/gIoU', 'refcoco_val/referring/P@0.9',
    'grefcoco_testB/generalized/N-acc', 'grefcoco_val/generalized/box_F1',
    'lvis/lvis/bbox_AP', 'lvis/lvis/segm_AP', 'flickr30k/grounding/R@10'])
def test_a_benchmark_reports_its_figures(scored, key):
    assert 0 <= scored[key] <= 100


def test_every_figure_is_a_number(scored):
    assert not [key for key, value in scored.items() if not math.isfinite(value)]
