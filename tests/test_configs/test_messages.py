# Copyright (c) mvp_mm authors. All rights reserved.
"""What a newcomer's mistakes in a config are told."""
from __future__ import annotations

import logging

import pytest
from mmengine.logging import MMLogger

from mvp_mm.engine import ConfigError, load_config
from mvp_mm.engine.config_check import check_config
from mvp_mm.engine.config_error import MOVED, hint, merge_repeats
from mvp_mm.registry import DATASETS, HOOKS, OPTIM_WRAPPER_CONSTRUCTORS

TINY = 'configs/mvplm/tiny/stage2.py'


@pytest.mark.parametrize('canvas', [128, '128', [128], [128, 0], [128, 64.0]])
def test_a_canvas_of_another_form_is_one_line(canvas):
    with pytest.raises(ConfigError, match=r'canvas: is \(width, height\) in pixels'):
        load_config(TINY, {'canvas': canvas})


def test_a_base_that_is_sought_beside_the_config_is_told_the_right_form(tmp_path):
    own = tmp_path / 'own.py'
    own.write_text(f"_base_ = '{TINY}'\n")
    with pytest.raises(ConfigError) as error:
        load_config(own)
    assert "_base_ = '{{$MVP_MM_CONFIGS:configs}}/mvplm/tiny/stage2.py'" in str(error.value)
    own.write_text("_base_ = '{{$MVP_MM_CONFIGS:configs}}/mvplm/tiny/stage2.py'\n")
    assert load_config(own).canvas == (128, 128)


def test_a_base_that_no_package_has_gets_no_hint(tmp_path):
    own = tmp_path / 'own.py'
    own.write_text("_base_ = 'configs/none.py'\n")
    with pytest.raises(ConfigError) as error:
        load_config(own)
    assert 'MVP_MM_CONFIGS' not in str(error.value)


@pytest.mark.parametrize(('options', 'said'), [
    ({'max_iters': 3}, 'train_cfg.max_iters'),
    ({'tokenizer.path': 'x'}, 'model.tokenizer, whose path follows model.llm.pretrained'),
    ({'model.llm.model_name_or_path': 'x'}, "no 'model_name_or_path'; it is pretrained")])
def test_names_of_other_frameworks_are_told_the_name_here(options, said):
    cfg = load_config(TINY, options)
    with pytest.raises(ConfigError) as error:
        check_config(cfg)
    assert said in str(error.value)


def test_every_new_name_of_a_type_is_one():
    registries = (DATASETS, HOOKS, OPTIM_WRAPPER_CONSTRUCTORS)
    for old, new in MOVED.items():
        if old[0].isupper():
            assert any(registry.get(new) for registry in registries), new
            assert hint(old, [new]) == f'; it is {new}'


def test_a_mistake_that_every_loader_has_is_named_once():
    merged = merge_repeats([
        'train_dataloader.num_workers: must be 0 or more, got -1',
        'val_dataloader.coco.num_workers: must be 0 or more, got -1',
        'test_dataloader.coco.num_workers: must be 0 or more, got -1',
        'test_dataloader.coco.batch_size: must be 1 or more, got 0',
        "a.pipeline[0].scale=(1, 2) differs from canvas=(2, 2)",
        "b.pipeline[0].scale=(1, 2) differs from canvas=(2, 2)",
        "unknown top-level key 'x'"])
    assert merged == [
        'train_dataloader.num_workers (and 2 more places): must be 0 or more, got -1',
        'test_dataloader.coco.batch_size: must be 1 or more, got 0',
        'a.pipeline[0].scale=(1, 2) differs from canvas=(2, 2) (and 1 more place)',
        "unknown top-level key 'x'"]


def test_filling_in_the_shipped_configs_is_not_logged(tmp_path):
    own = tmp_path / 'own.py'
    own.write_text("_base_ = '{{$MVP_MM_CONFIGS:configs}}/mvplm/tiny/stage2.py'\n")
    load_config(own)
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    load_config(own)
    logger.removeHandler(handler)
    assert not [r for r in records if 'MVP_MM_CONFIGS' in r.getMessage()]
