# Copyright (c) mvp_mm authors. All rights reserved.
# Inherit this beside any config; `tensorboard --logdir work_dirs` then shows the curves:
#   _base_ = ['../configs/mvplm/stage2.py', '../configs/_base_/tensorboard.py']
visualizer = dict(
    type='Visualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
