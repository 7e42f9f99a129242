# Copyright (c) mvp_mm authors. All rights reserved.
"""The registries of mvp_mm: children of mmengine's, scope ``mvp_mm``.

A config names a component by ``type``; components of mmdet are reached with the prefix
``mmdet.``, for example ``type='mmdet.SwinTransformer'``. Whoever builds from here also loads
weights by the rules of :mod:`mvp_mm.utils.checkpoint_io`, in mmengine and mmdet too, and hears no
messages about parts of mmdet that nobody asked for.
"""
from __future__ import annotations

from typing import Any

from mmengine import registry as root
from mmengine.registry import Registry, build_from_cfg

from mvp_mm.utils.checkpoint_io import register_with_mmengine
from mvp_mm.utils.noise import quiet_logger

register_with_mmengine()
quiet_logger()

_SCOPE = 'mvp_mm'


# Stops at an image whose short side shrinks below half a pixel; the subclass of its name goes on.
_REPLACED = {'mmdet.Resize': f'{_SCOPE}.Resize'}


def _build_transform(cfg: Any, registry: Registry, **kwargs: Any) -> Any:
    """Build a transform, with mmdet's ``Resize`` replaced by the subclass for images of any shape.

    So are the ``resize_type`` of ``RandomResize`` and ``RandomChoiceResize``.
    """
    if isinstance(cfg, dict):
        replaced = {key: _REPLACED[cfg[key]] for key in ('type', 'resize_type')
                    if isinstance(cfg.get(key), str) and cfg[key] in _REPLACED}
        if replaced:
            cfg = {**cfg, **replaced}
    return build_from_cfg(cfg, registry, **kwargs)


def _child(parent: Registry, *packages: str, **kwargs: Any) -> Registry:
    """A child of one of mmengine's registries; its packages are imported on first use."""
    return Registry(parent.name, parent=parent, scope=_SCOPE,
                    locations=[f'{_SCOPE}.{package}' for package in packages], **kwargs)


MODELS = _child(root.MODELS, 'models', 'ops')
MODEL_WRAPPERS = _child(root.MODEL_WRAPPERS, 'engine')
TASK_UTILS = _child(root.TASK_UTILS, 'models', 'datasets')
DATASETS = _child(root.DATASETS, 'datasets')
TRANSFORMS = _child(root.TRANSFORMS, 'datasets', build_func=_build_transform)
SAMPLERS = _child(root.DATA_SAMPLERS, 'datasets')
METRICS = _child(root.METRICS, 'evaluation')
EVALUATOR = _child(root.EVALUATOR, 'evaluation')
HOOKS = _child(root.HOOKS, 'engine', 'visualization')
LOOPS = _child(root.LOOPS, 'engine')
RUNNERS = _child(root.RUNNERS, 'engine')
VISUALIZERS = _child(root.VISUALIZERS, 'visualization')
VISBACKENDS = _child(root.VISBACKENDS, 'visualization')
OPTIMIZERS = _child(root.OPTIMIZERS, 'engine')
OPTIM_WRAPPERS = _child(root.OPTIM_WRAPPERS, 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(root.OPTIM_WRAPPER_CONSTRUCTORS, 'engine')
PARAM_SCHEDULERS = _child(root.PARAM_SCHEDULERS, 'engine')
LOG_PROCESSORS = _child(root.LOG_PROCESSORS, 'engine')
FUNCTIONS = _child(root.FUNCTIONS, 'datasets')
WEIGHT_INITIALIZERS = _child(root.WEIGHT_INITIALIZERS, 'models')

TASKS = Registry('task', scope=_SCOPE, locations=['mvp_mm.tasks'])
TOKENIZERS = Registry('tokenizer', scope=_SCOPE, locations=['mvp_mm.tokenization'])
