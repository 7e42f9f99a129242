# Copyright (c) mvp_mm authors. All rights reserved.
"""Collect the state of a run that a checkpoint holds."""
from __future__ import annotations

import copy
import time
from functools import cache
from typing import Any

import mmengine
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.runner.checkpoint import weights_to_cpu
from mmengine.utils import apply_to, get_git_hash

from mvp_mm.engine.hooks import unwrap


class ConfigText:
    """Formats a config, and again only after it has changed: formatting takes a second."""

    def __init__(self) -> None:
        self._content = ''
        self._text = ''

    def __call__(self, cfg: Config) -> str:
        """Return the text of a config, as the run folder holds it."""
        content = repr(cfg.to_dict())
        if content != self._content:
            self._text, self._content = cfg.pretty_text, content
        return self._text


def gather_state(runner: Runner, config_text: str, meta: dict[str, Any] | None = None,
                 by_epoch: bool = True, save_optimizer: bool = True,
                 save_param_scheduler: bool = True) -> dict[str, Any]:
    """Collect the state of a run, laid out as mmengine's checkpoints are.

    Tensors are on the CPU. Those that the run keeps there are the run's own, not copies.

    Args:
        runner: The run; its hooks are asked for what they add.
        config_text: Its config.
        meta: Goes into the checkpoint's ``meta``.
        by_epoch: Whether an epoch has ended, or an iteration.
        save_optimizer: Add the optimizer's state.
        save_param_scheduler: Add the states of the schedules, if there are any.
    """
    meta = {'epoch': runner.epoch + by_epoch, 'iter': runner.iter + (not by_epoch), **(meta or {})}
    meta.update(
        cfg=config_text, seed=runner.seed, experiment_name=runner.experiment_name,
        time=time.strftime('%Y%m%d_%H%M%S'), mmengine_version=_mmengine_version())
    dataset = runner.train_dataloader.dataset
    if hasattr(dataset, 'metainfo'):
        meta['dataset_meta'] = dataset.metainfo
    state = {
        'meta': meta,
        'state_dict': weights_to_cpu(unwrap(runner.model).state_dict()),
        'message_hub': _to_cpu(runner.message_hub.state_dict()),
    }
    if save_optimizer:
        state['optimizer'] = _to_cpu(runner.optim_wrapper.state_dict())
    if save_param_scheduler and runner.param_schedulers is not None:
        state['param_schedulers'] = schedule_states(runner)
    runner.call_hook('before_save_checkpoint', checkpoint=state)
    return state


def schedule_states(runner: Runner) -> list[dict] | dict[str, list[dict]] | None:
    """Copy the states of the schedules of learning rates."""
    found = runner.param_schedulers
    if isinstance(found, dict):
        return {name: [s.state_dict() for s in each] for name, each in found.items()}
    return found and [copy.deepcopy(s.state_dict()) for s in found]


def _to_cpu(tree: Any) -> Any:
    return apply_to(tree, lambda value: hasattr(value, 'cpu'), lambda value: value.cpu())


@cache
def _mmengine_version() -> str:
    """Version of mmengine, with the commit of the working folder as its checkpoints have it."""
    return mmengine.__version__ + get_git_hash()
