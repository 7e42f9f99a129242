# Copyright (c) mvp_mm authors. All rights reserved.
"""Handing weights from one stage to the next, with a report of what was taken over."""
import re
from collections.abc import Collection, Sequence
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


def _named_as_in(own: Collection[str], given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Find the weights of layers that adapters are put beside: peft renames the layers."""
    own = set(own)
    renamed = {key.replace('.base_layer.', '.'): key for key in own if '.base_layer.' in key}
    return {renamed.get(key, key) if key not in own else key: value
            for key, value in given.items()}


def _check_finite(state: dict[str, Tensor]) -> None:
    broken = [key for key, value in state.items()
              if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise ValueError(f'{len(broken)} tensors hold values that are not finite, the first is '
                         f'{broken[0]}')


def compare_with_model(model: nn.Module, checkpoint: dict) -> HandoverReport:
    """Tell what loading a checkpoint would change.

    Args:
        model (nn.Module): The model to be loaded.
        checkpoint (dict): A checkpoint with a ``state_dict``, or a state dict itself.

    Returns:
        HandoverReport: What is taken over, stays fresh and is not used.

    Raises:
        ValueError: If tensors of one key differ in shape, if no key fits at all, or if a value
            is not finite.
    """
    own = model.state_dict()
    given = _named_as_in(own.keys(), _state_dict_of(checkpoint))
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
    _check_finite({key: given[key] for key in report.loaded})
    return report


def read_weights(path: str | Path) -> dict:
    """Read a checkpoint onto the CPU; objects in the file are not run.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint, or not whole.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'Checkpoint not found: {path}')
    try:
        with torch.serialization.safe_globals(get_torch_safe_globals()):
            checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except (RuntimeError, EOFError, OSError) as error:
        reason = str(error).strip().split('\n')[0]
        raise ValueError(f'{path} is no checkpoint, or not whole: {reason}') from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f'{path} holds a {type(checkpoint).__name__}, not a checkpoint')
    return checkpoint


def load_stage_checkpoint(model: nn.Module, path: str | Path) -> HandoverReport:
    """Load the weights of an earlier stage into a model; objects in the file are not run.

    Args:
        model (nn.Module): The model to load.
        path (str | Path): A checkpoint written by mmengine's Runner, or a bare state dict.

    Returns:
        HandoverReport: What was taken over, stays fresh and was not used.

    Raises:
        FileNotFoundError: If the file, or one that it names for the rest, is not there.
        ValueError: If it does not fit the model, or leaves out a part that the model has not
            read from anywhere else.
    """
    checkpoint = complete(read_weights(path), path)
    try:
        report = compare_with_model(model, checkpoint)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from None
    check_left_out(model, checkpoint, report.fresh, path)
    given = _named_as_in([*report.loaded, *report.fresh], _state_dict_of(checkpoint))
    model.load_state_dict(given, strict=False)
    return report


def complete(checkpoint: dict, path: str | Path) -> dict:
    """Add the weights that a checkpoint has left where it found them.

    Args:
        checkpoint (dict): With ``meta.frozen_from`` where it holds what was trained alone.
        path (str | Path): Where it was read, for messages.

    Returns:
        dict: The checkpoint with all weights in its ``state_dict``.

    Raises:
        FileNotFoundError: If the file that it names is gone.
    """
    base = (checkpoint.get('meta') or {}).get('frozen_from')
    if base is None:
        return checkpoint
    if not Path(base).is_file():
        raise FileNotFoundError(f'{path} holds trained weights alone; those that were frozen '
                                f'come from {base}, which is not there')
    below = complete(read_weights(base), base)
    return {**checkpoint,
            'state_dict': {**_state_dict_of(below), **_state_dict_of(checkpoint)}}


def _pretrained_parts(model: nn.Module) -> dict[str, str]:
    """Name the modules that have read a file or folder of weights, and which."""
    return {name: part.pretrained for name, part in model.named_modules()
            if getattr(part, 'pretrained', None)}


def _prefixes(names: Collection[str]) -> tuple[str, ...]:
    return tuple(f'{name}.' for name in names)


def check_left_out(model: nn.Module, checkpoint: dict, fresh: Collection[str],
                   path: str | Path) -> None:
    """Refuse a checkpoint without weights that stand elsewhere and that the model has not.

    Args:
        model (nn.Module): The model to be loaded.
        checkpoint (dict): With ``meta.pretrained_from`` where it has left out pretrained parts.
        fresh (Collection[str]): Keys of the model that the checkpoint does not give.
        path (str | Path): Where it was read, for messages.

    Raises:
        ValueError: Naming the part and where its weights were.
    """
    left = (checkpoint.get('meta') or {}).get('pretrained_from') or {}
    own = _prefixes(_pretrained_parts(model))
    for part, source in left.items():
        lacking = [key for key in fresh if key.startswith(f'{part}.') and not key.startswith(own)]
        if lacking:
            raise ValueError(
                f'{path} does not hold {part}, which its run had from {source} and kept frozen; '
                f'this model would have random weights there. Give the same: '
                f'model.{part}.pretrained={source}')


@HOOKS.register_module()
class StageCheckpointHook(Hook):
    """Report what ``load_from`` gives to the model, and refuse a checkpoint that does not fit.

    mmengine loads with ``strict=False``: a tensor of the wrong shape is skipped with a warning.
    This hook runs before that. On resuming, a trainable parameter missing in the checkpoint is
    an error too, and so is another number of images in a forward pass, in which mmengine counts:
    the run would then not continue what it was. A frozen part at random values stops the
    run before its first step.

    Args:
        trained_only (bool): Write checkpoints without the frozen parameters that can be had
            again: from the file that the run started from, or from the ``pretrained`` folder of
            a part. The checkpoint names both. Defaults to False.
        allow_frozen_random_init (Sequence[str]): Top-level parts of the model that may be frozen
            at random values, since they do not run or are not meant to learn. Defaults to ().
    """

    def __init__(self, trained_only: bool = False,
                 allow_frozen_random_init: Sequence[str] = ()) -> None:
        self.trained_only = trained_only
        self.allow_frozen_random_init = tuple(allow_frozen_random_init)
        self._source: str | None = None
        self._from_source: set[str] = set()
        self._given: set[str] = set()

    def before_train(self, runner: Runner) -> None:
        model = unwrap(runner.model)
        initialised = [name for name, part in model.named_modules()
                       if _reads_weights(getattr(part, 'init_cfg', None))]
        known = _prefixes([*_pretrained_parts(model), *initialised, *self.allow_frozen_random_init])
        lost = [name for name, p in model.named_parameters() if not p.requires_grad
                and name not in self._given and not name.startswith(known)]
        if lost:
            part = lost[0].split('.')[0]
            raise ValueError(
                f'model.{part} is frozen at random values: {len(lost)} parameters of the model '
                f'({_summary(lost)}) neither train nor come from pretrained weights or load_from, '
                f'the first is {lost[0]}. Give {part} its weights (docs/reference/weights.md), '
                'or name it in default_hooks.handover.allow_frozen_random_init')

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        model = unwrap(runner.model)
        path, resumes = runner.cfg.get('load_from'), runner.cfg.get('resume')
        own = set(checkpoint.get('state_dict', checkpoint))
        if resumes:
            self._check_pace(runner, checkpoint)
        checkpoint.update(complete(checkpoint, path))
        report = compare_with_model(model, checkpoint)
        check_left_out(model, checkpoint, report.fresh, path)
        self._given = set(report.loaded)
        state = _named_as_in([*report.loaded, *report.fresh], _state_dict_of(checkpoint))
        if 'state_dict' not in checkpoint:
            checkpoint.clear()
        checkpoint['state_dict'] = state
        self._source = checkpoint.get('meta', {}).get('frozen_from') if resumes else path
        self._from_source = set(report.loaded) - own if resumes else set(report.loaded)
        if resumes:
            trainable = {name for name, p in model.named_parameters() if p.requires_grad}
            missing = [key for key in report.fresh if key in trainable]
            if missing:
                raise ValueError(
                    f'Cannot resume: the checkpoint lacks {len(missing)} trainable parameters, '
                    f'the first is {missing[0]}')
        else:
            runner.logger.info(f'Weights handed over:\n{report}')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint['meta']['images_a_pass'] = _images_a_pass(runner)
        if not self.trained_only:
            return
        model = unwrap(runner.model)
        state = checkpoint['state_dict']
        frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
        elsewhere = frozen & self._from_source
        left_in = {part: str(Path(source).resolve())
                   for part, source in _pretrained_parts(model).items()
                   if any(name.startswith(f'{part}.') for name in frozen - elsewhere)}
        for name in frozen:
            if name in elsewhere or name.startswith(_prefixes(left_in)):
                del state[name]
        if elsewhere:
            checkpoint['meta']['frozen_from'] = str(Path(self._source).resolve())
        if left_in:
            checkpoint['meta']['pretrained_from'] = left_in

    @staticmethod
    def _check_pace(runner: Runner, checkpoint: dict) -> None:
        before = checkpoint.get('meta', {}).get('images_a_pass')
        now = _images_a_pass(runner)
        if before not in (None, now):
            raise ValueError(
                f'Cannot resume: a forward pass of all processes took {before} images when the '
                f'run began and would take {now}, so its steps cannot be counted on. Resume with '
                'as many processes times train_dataloader.batch_size as before, or start a new '
                'run from the weights with --load-from')


def _reads_weights(init_cfg: dict | list | None) -> bool:
    """Whether mmengine's initialisation reads a file."""
    steps = init_cfg if isinstance(init_cfg, list) else [init_cfg or {}]
    return any(step.get('type') == 'Pretrained' for step in steps)


def _images_a_pass(runner: Runner) -> int | None:
    """Images of one forward pass of all processes."""
    batch = runner.train_dataloader.batch_size
    return batch and batch * runner.world_size
