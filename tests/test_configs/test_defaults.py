# Copyright (c) mvp_mm authors. All rights reserved.
"""One key of a config stands for validation, one for missing captions, one for common metrics."""
from __future__ import annotations

import pytest

from mvp_mm.engine import ConfigError, load_config
from mvp_mm.engine.config_error import walk_dicts
from tests.helpers import ROOT

CONFIGS = ROOT / 'configs/mvplm'
FORCED = dict(type='ResponseMetric')


def test_stage_two_is_validated_on_a_part_of_its_test_data():
    cfg = load_config(CONFIGS / 'stage2.py')
    assert set(cfg.val_dataloader) == set(cfg.test_dataloader) == {'panoptic', 'refcoco'}
    for name, loader in cfg.val_dataloader.items():
        assert loader.sampler == dict(type='SubsetSampler', number=256)
        same = cfg.test_dataloader[name]
        assert {k: v for k, v in loader.items() if k != 'sampler'} == {
            k: v for k, v in same.items() if k != 'sampler'}
    assert cfg.val_evaluator == cfg.test_evaluator
    assert cfg.val_cfg == dict(type='MultiValLoop', dtype='bfloat16')
    assert 1000 <= cfg.train_cfg.val_interval <= 10000
    assert 'validation_images' not in cfg


def test_an_accelerated_test_leaves_validation_as_it_is():
    cfg = load_config(CONFIGS / 'stage2.py', {'test_cfg.acceleration': dict(weights='bfloat16')})
    assert cfg.val_cfg == dict(type='MultiValLoop', dtype='bfloat16')


@pytest.mark.parametrize('name', ['tiny/stage2', 'eval/all', 'mini_coco'])
def test_validation_is_off_where_a_config_says_so(name):
    cfg = load_config(CONFIGS / f'{name}.py')
    assert [cfg.get(key) for key in ('val_dataloader', 'val_evaluator', 'val_cfg')] == [None] * 3


def test_validation_is_one_key_on_the_command_line():
    off = load_config(CONFIGS / 'stage2.py', {'validation_images': None})
    assert off.get('val_dataloader') is None
    less = load_config(CONFIGS / 'stage2.py', {
        'validation_images': 8, 'val_dataloader.refcoco.batch_size': 2})
    assert less.val_dataloader.refcoco.sampler.number == 8
    assert less.val_dataloader.refcoco.batch_size == 2
    assert less.val_dataloader.panoptic.batch_size == 8


def test_a_validation_of_ones_own_is_kept():
    cfg = load_config(CONFIGS / 'finetune/full.py')
    assert set(cfg.val_dataloader) == {'own'}
    assert cfg.val_dataloader.own.sampler.type == 'DefaultSampler'


@pytest.mark.parametrize('options, message', [
    ({'validation_images': 0}, 'validation_images: a number of images, 1 or more'),
    ({'validation_images': 8, 'test_cfg.type': 'TestLoop'}, 'needs a test_dataloader of named')])
def test_a_validation_that_cannot_be_made_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        load_config(CONFIGS / 'stage2.py', options)


def rules_of(cfg):
    """What every training task does without a caption; None where it does not take the rule."""
    return {value['type']: value.get('missing_caption')
            for _, value in walk_dicts(cfg.train_dataloader.to_dict(), '')
            if value.get('type', '').endswith('Task')}


@pytest.mark.parametrize('options, rule', [({}, 'leave_out'), ({'missing_caption': 'none'}, 'none'),
                                           ({'missing_caption': None}, None)])
def test_one_key_says_what_becomes_of_images_without_captions(options, rule):
    found = rules_of(load_config(CONFIGS / 'stage2.py', options))
    assert found == dict.fromkeys(
        ('PanopticTask', 'ReferringSegmentationTask', 'DetectionTask', 'PhraseGroundingTask'), rule)


def test_members_of_joined_datasets_are_reached_and_a_task_may_say_otherwise():
    assert set(rules_of(load_config(CONFIGS / 'tiny/stage2.py')).values()) == {'leave_out'}
    assert set(rules_of(load_config(CONFIGS / 'mini_coco.py')).values()) == {'none'}


def test_tasks_without_captions_are_left_alone():
    cfg = load_config(CONFIGS / 'stage1.py', {'missing_caption': 'leave_out'})
    assert rules_of(cfg) == dict(CaptionTask=None)


@pytest.mark.parametrize('name', ['stage2', 'eval/all', 'tiny/stage2', 'released/tiny'])
def test_every_test_counts_the_responses_that_were_cut(name):
    cfg = load_config(CONFIGS / f'{name}.py')
    assert all(metrics.count(FORCED) == 1 for metrics in cfg.test_evaluator.values())
    assert 'common_metrics' not in cfg


def test_common_metrics_can_be_left_out():
    cfg = load_config(CONFIGS / 'stage2.py', {'common_metrics': None})
    assert not any(FORCED in metrics for metrics in cfg.test_evaluator.values())
