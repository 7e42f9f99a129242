# Copyright (c) mvp_mm authors. All rights reserved.
"""The registries of mvp_mm: children of mmengine's, scope ``mvp_mm``.

A config names a component by ``type``; components of mmdet are reached with the prefix
``mmdet.``, for example ``type='mmdet.SwinTransformer'``.
"""
from mmengine import registry as root
from mmengine.registry import Registry

_SCOPE = 'mvp_mm'
_LOCATIONS = {
    'models': ['mvp_mm.models', 'mvp_mm.ops'],
    'datasets': ['mvp_mm.datasets'],
    'engine': ['mvp_mm.engine'],
}

MODELS = Registry('model', parent=root.MODELS, scope=_SCOPE, locations=_LOCATIONS['models'])
MODEL_WRAPPERS = Registry(
    'model_wrapper', parent=root.MODEL_WRAPPERS, scope=_SCOPE, locations=_LOCATIONS['engine'])
TASK_UTILS = Registry(
    'task util', parent=root.TASK_UTILS, scope=_SCOPE, locations=_LOCATIONS['models'])
DATASETS = Registry('dataset', parent=root.DATASETS, scope=_SCOPE, locations=_LOCATIONS['datasets'])
TRANSFORMS = Registry(
    'transform', parent=root.TRANSFORMS, scope=_SCOPE, locations=_LOCATIONS['datasets'])
SAMPLERS = Registry(
    'data sampler', parent=root.DATA_SAMPLERS, scope=_SCOPE, locations=_LOCATIONS['datasets'])
METRICS = Registry('metric', parent=root.METRICS, scope=_SCOPE, locations=['mvp_mm.evaluation'])
HOOKS = Registry('hook', parent=root.HOOKS, scope=_SCOPE, locations=_LOCATIONS['engine'])
LOOPS = Registry('loop', parent=root.LOOPS, scope=_SCOPE, locations=_LOCATIONS['engine'])
VISUALIZERS = Registry(
    'visualizer', parent=root.VISUALIZERS, scope=_SCOPE, locations=['mvp_mm.visualization'])

TASKS = Registry('task', scope=_SCOPE, locations=['mvp_mm.tasks'])
TOKENIZERS = Registry('tokenizer', scope=_SCOPE, locations=['mvp_mm.datasets'])
