# Copyright (c) mvp_mm authors. All rights reserved.
"""The config of a toy's run that is lost and started again, to be written to a file."""
from __future__ import annotations

CONFIG = """
_base_ = '{root}/configs/_base_/default_runtime.py'
custom_imports = dict(imports=['tests.test_engine.toys'])
model = dict(type='ToyModel', noise=0.1)
train_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dict(type='ToyDataset'),
    sampler=dict(type='InfiniteSampler'), collate_fn=dict(type='default_collate'))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=12, val_interval=10**6)
optim_wrapper = dict(type='AutocastOptimWrapper', dtype=None, accumulative_counts=2,
                     optimizer=dict(type='AdamW', lr=1e-2), clip_grad=dict(max_norm=1.0))
default_hooks = dict(
    handover=dict(allow_frozen_random_init=['encoder']), checkpoint=dict(interval=3))
custom_hooks = [dict(folder='.', **{hook})]
log_level = 'ERROR'
"""
