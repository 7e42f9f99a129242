# Copyright (c) mvp_mm authors. All rights reserved.
"""Handing weights from one stage to the next, with a report of what was taken over."""
import re
from dataclasses import dataclass, field
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.runner.checkpoint import get_torch_safe_globals
from torch import Tensor, nn

from mvp_mm.engine.hooks import unwrap
from mvp_mm.registry import HOOKS


@dataclass
class HandoverReport:
    """What a checkpoint gives to a model.

    Attributes:
        loaded (list[str]): Keys of the model that the checkpoint holds.
        fresh (list[str]): Keys of the model that it does not hold.
        unused (list[str]): Keys of the checkpoint that the model does not have.
    """

    loaded: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = {'from the checkpoint': self.loaded, 'fresh': self.fresh, 'not used': self.unused}
        return '\n'.join(f'  {title}: {_summary(keys)}' for title, keys in parts.items())


def _summary(keys: list[str]) -> str:
    """Count the keys of each top-level part, ``connector (4), decoder (120)``."""
    counts: dict[str, int] = {}
    for key in keys:
        part = key.split('.')[0]
        counts[part] = counts.get(part, 0) + 1
    return ', '.join(f'{part} ({count})' for part, count in counts.items()) or 'nothing'


def _state_dict_of(checkpoint: dict) -> dict[str, Tensor]:
    """Take the weights out of a checkpoint, names free of a data-parallel prefix."""
    state = checkpoint.get('state_dict', checkpoint)
    return {re.sub(r'^module\.', '', key): value for key, value in state.items()}


def compare_with_model(model: nn.Module, checkpoint: dict) -> HandoverReport:
    """Tell what loading a checkpoint would change.

    Args:
        model (nn.Module): The model to be loaded.
        checkpoint (dict): A checkpoint with a ``state_dict``, or a state dict itself.

    Returns:
        HandoverReport: What is taken over, stays fresh and is not used.

    Raises:
        ValueError: If tensors of one key differ in shape, or if no key fits at all.
    """
    own, given = model.state_dict(), _state_dict_of(checkpoint)
    wrong = [
        f'{key}: checkpoint {tuple(given[key].shape)}, model {tuple(own[key].shape)}'
        for key in own.keys() & given.keys() if given[key].shape != own[key].shape
    ]
    if wrong:
        raise ValueError('Checkpoint does not fit the model:\n  ' + '\n  '.join(sorted(wrong)))
    report = HandoverReport(
        loaded=[key for key in own if key in given],
        fresh=[key for key in own if key not in given],
        unused=[key for key in given if key not in own])
    if not report.loaded:
        raise ValueError(
            f'Checkpoint has no weight of this model; it holds {_summary(list(given))}, the model '
            f'{_summary(list(own))}')
    return report


def load_stage_checkpoint(model: nn.Module, path: str | Path) -> HandoverReport:
    """Load the weights of an earlier stage into a model; objects in the file are not run.

    Args:
        model (nn.Module): The model to load.
        path (str | Path): A checkpoint written by mmengine's Runner, or a bare state dict.

    Returns:
        HandoverReport: What was taken over, stays fresh and was not used.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'Checkpoint not found: {path}')
    with torch.serialization.safe_globals(get_torch_safe_globals()):
        checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    try:
        report = compare_with_model(model, checkpoint)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from None
    model.load_state_dict(_state_dict_of(checkpoint), strict=False)
    return report


@HOOKS.register_module()
class StageHandoverHook(Hook):
    """Report what ``load_from`` gives to the model, and refuse a checkpoint that does not fit.

    mmengine loads with ``strict=False``: a tensor of the wrong shape is skipped with a warning.
    This hook runs before that. On resuming, a trainable parameter missing in the checkpoint is
    an error too, since the run would then not continue what it was.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        model = unwrap(runner.model)
        report = compare_with_model(model, checkpoint)
        if runner.cfg.get('resume'):
            trainable = {name for name, p in model.named_parameters() if p.requires_grad}
            missing = [key for key in report.fresh if key in trainable]
            if missing:
                raise ValueError(
                    f'Cannot resume: the checkpoint lacks {len(missing)} trainable parameters, '
                    f'the first is {missing[0]}')
        else:
            runner.logger.info(f'Weights handed over:\n{report}')
