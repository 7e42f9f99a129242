# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import uuid

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from tests.helpers import save_tokenizer
from tests.test_engine import toys


@pytest.fixture
def toy_config(tmp_path):
    """A complete config around the toy model: train, validate and test in milliseconds."""
    return Config(dict(
        default_scope='mvp_mm',
        model=dict(type='ToyModel'),
        work_dir=str(tmp_path / 'work'),
        train_dataloader=toys.toy_loader(type='InfiniteSampler'),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=4, val_interval=100),
        optim_wrapper=dict(
            type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01), clip_grad=dict(max_norm=1)),
        test_dataloader=dict(panoptic=toys.toy_loader(5), refcoco=toys.toy_loader(4)),
        test_evaluator=dict(panoptic=[dict(type='ToyMetric')], refcoco=dict(type='ToyMetric')),
        test_cfg=dict(type='MultiTestLoop'),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='CheckpointHook', interval=2, by_epoch=False)),
        custom_hooks=[dict(type='StageCheckpointHook', allow_frozen_random_init=['encoder'])],
        log_processor=dict(by_epoch=False),
        randomness=dict(seed=0),
        experiment_name=uuid.uuid4().hex))


@pytest.fixture(scope='session')
def tokenizer_path(tmp_path_factory):
    return save_tokenizer(tmp_path_factory.mktemp('tokenizer'))


@pytest.fixture
def make_runner():
    """Build a Runner; its default scope is forgotten afterwards."""
    yield Runner.from_cfg
    DefaultScope._instance_dict.clear()
