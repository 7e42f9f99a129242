# Copyright (c) mvp_mm authors. All rights reserved.
# Inherit this after default_runtime.py: `tensorboard --logdir work_dirs` then shows the curves.
_base_ = './default_runtime.py'

visualizer = dict(
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
