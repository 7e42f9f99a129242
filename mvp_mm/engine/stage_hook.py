# Copyright (c) mvp_mm authors. All rights reserved.
"""The hook that hands weights from one stage to the next and guards where they come from."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from torch import nn

from mvp_mm.engine.checkpoint import (
    check_left_out,
    check_whole,
    compare_with_model,
    complete,
    count_by_part,
    named_as_in,
    prefixes,
    pretrained_parts,
    weights_in,
)
from mvp_mm.engine.hooks import unwrap
from mvp_mm.engine.weight_sources import (
    InitFiles,
    find_sources,
    random_and_frozen,
    random_parts,
    shown,
    source_table,
    watch_init_files,
)
from mvp_mm.registry import HOOKS
from mvp_mm.utils.checkpoint_io import CheckpointError
from mvp_mm.utils.named_weights import weights_file


@HOOKS.register_module()
class StageCheckpointHook(Hook):
    """Report where all weights come from, and refuse those that do not fit or are random.

    mmengine loads with ``strict=False``: a tensor of the wrong shape is skipped with a warning.
    This hook runs before that. Every start logs one table: part, tensors, source, trained or
    frozen. On resuming, a trainable parameter missing in the checkpoint is an error, and so is
    another global batch per forward pass, in which mmengine counts: the run would not continue
    what it was. For testing, the weights must be exactly those of the model. A frozen part at
    random values stops the run before its first step.

    Args:
        trained_only: Write checkpoints without the frozen parameters that can be had again: from
            the file that the run started from, or from the ``pretrained`` folder of a part. The
            checkpoint names both. What is random and did not run is left out too.
        allow_frozen_random_init: Parts of the model that may be frozen at random values, since
            they do not run or are not meant to learn.
        pretrained_parts: Parts that the recipe starts from pretrained weights, dotted names. Such
            a part without one tensor from a file stops the run before its first step.
        allow_random_init: Those of ``pretrained_parts`` that may train from random values all the
            same; the log says so when the run starts and when it ends.
    """

    def __init__(self, trained_only: bool = False,
                 allow_frozen_random_init: Sequence[str] = (),
                 pretrained_parts: Sequence[str] = (),
                 allow_random_init: Sequence[str] = ()) -> None:
        self.trained_only = trained_only
        self.allow_frozen_random_init = tuple(allow_frozen_random_init)
        self.pretrained_parts = tuple(pretrained_parts)
        self.allow_random_init = tuple(allow_random_init)
        self._init_files: InitFiles | None = None
        self._files: dict[str, str] = {}
        self._sources: dict[str, str] = {}
        self._base: str | None = None
        self._from_base: set[str] = set()
        self._random: list[str] = []
        self._ran: set[str] = set()

    def before_run(self, runner: Runner) -> None:
        """Watch which tensors the files of ``init_cfg`` give."""
        if _trains(runner):
            self._init_files = watch_init_files(unwrap(runner.model))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compare a checkpoint with the model; add the weights that it names by path."""
        model = unwrap(runner.model)
        path, resumes = runner.cfg.get('load_from'), runner.cfg.get('resume')
        own = set(weights_in(checkpoint))
        if resumes:
            _check_run_state(runner, checkpoint, path)
        checkpoint.update(complete(checkpoint, path))
        report = compare_with_model(model, checkpoint, path)
        check_left_out(model, checkpoint, report.fresh, path)
        state = named_as_in([*report.loaded, *report.fresh], weights_in(checkpoint))
        if 'state_dict' not in checkpoint:
            checkpoint.clear()
        checkpoint['state_dict'] = state
        if not _trains(runner):
            check_whole(model, state, path, provided=pretrained_parts(model))
            return
        meta = checkpoint.get('meta') or {}
        self._base = meta.get('frozen_from') if resumes else str(weights_file(path))
        self._from_base = set(report.loaded) - own if resumes else set(report.loaded)
        source = f'{shown(path)} (resumed)' if resumes else shown(path)
        base = shown(meta['frozen_from']) if meta.get('frozen_from') else source
        self._files = {key: source if key in own else base for key in report.loaded}
        if resumes:
            self._random = [str(part) for part in meta.get('random_init') or ()]
            _check_trainable(model, report.fresh, path)
        else:
            runner.logger.info(f'Weights handed over:\n{report}')

    def before_train(self, runner: Runner) -> None:
        """Log the table of sources; refuse what is at random values unasked."""
        model = unwrap(runner.model)
        if self._init_files is not None:
            self._init_files.close()
            self._files = {**{k: shown(v) for k, v in self._init_files.given.items()},
                           **self._files}
        self._sources = find_sources(model, self._files)
        runner.logger.info('Where the weights come from:\n' + source_table(model, self._sources))
        self._refuse_frozen_random(model)
        self._refuse_random(runner)
        self._note_runs(model)

    def after_train(self, runner: Runner) -> None:
        """Repeat the warning about parts at random values."""
        self._warn_random(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Leave out what can be had again, and what is random and did not run."""
        meta = checkpoint['meta']
        meta['images_a_pass'] = _images_per_pass(runner)
        if self._random:
            meta['random_init'] = list(self._random)
        if not self.trained_only:
            return
        model = unwrap(runner.model)
        frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
        elsewhere = frozen & self._from_base
        left_in = {part: str(Path(source).resolve())
                   for part, source in pretrained_parts(model).items()
                   if any(name.startswith(f'{part}.') for name in frozen - elsewhere)}
        idle = prefixes(part for part in self.allow_frozen_random_init if part not in self._ran)
        trained = {name.split('.')[0] for name, p in model.named_parameters() if p.requires_grad}
        for name in list(checkpoint['state_dict']):
            random = name.startswith(idle) and name not in self._files and (
                name in frozen or name.split('.')[0] not in trained)
            if random or name in elsewhere or (name in frozen
                                               and name.startswith(prefixes(left_in))):
                del checkpoint['state_dict'][name]
        if elsewhere:
            meta['frozen_from'] = str(Path(self._base).resolve())
        if left_in:
            meta['pretrained_from'] = left_in

    def _refuse_frozen_random(self, model: nn.Module) -> None:
        lost = random_and_frozen(model, self._sources, self.allow_frozen_random_init)
        if lost:
            part = lost[0].split('.')[0]
            raise CheckpointError(
                f'model.{part} is frozen at random values: {len(lost)} parameters of the model '
                f'({count_by_part(lost)}) neither train nor come from pretrained weights or '
                f'load_from, the first is {lost[0]}. Give {part} its weights '
                '(docs/reference/weights.md), or name it in '
                'default_hooks.handover.allow_frozen_random_init')

    def _refuse_random(self, runner: Runner) -> None:
        """Look at the parts that should be pretrained."""
        found = random_parts(self._sources, self.pretrained_parts)
        refused = [part for part in found if part not in self.allow_random_init]
        if refused:
            raise CheckpointError(
                f'model.{refused[0]} starts at random values; the recipe starts it from '
                'pretrained weights (docs/reference/weights.md). Give them by load_from, '
                'pretrained or init_cfg, or name the part in '
                'default_hooks.handover.allow_random_init'
                + (f' (so do {", ".join(refused[1:])})' if refused[1:] else ''))
        self._random = sorted({*self._random, *found})
        self._warn_random(runner)

    def _warn_random(self, runner: Runner) -> None:
        if self._random:
            runner.logger.warning(
                f'TRAINED FROM RANDOM VALUES: {", ".join(self._random)}. The recipe starts '
                'from pretrained weights there (docs/reference/weights.md); expect lower '
                "figures than the paper's")

    def _note_runs(self, model: nn.Module) -> None:
        """Find out which of the parts that are frozen at random values run all the same."""
        for name in self.allow_frozen_random_init:
            try:
                part = model.get_submodule(name)
            except AttributeError:
                continue
            for module in part.modules():
                module.register_forward_pre_hook(lambda *_, name=name: self._ran.add(name))


def _trains(runner: Runner) -> bool:
    """Whether the run trains, or only answers."""
    return isinstance(runner._train_loop, BaseLoop)


def _check_run_state(runner: Runner, checkpoint: dict[str, Any], path: str) -> None:
    """Refuse to resume from a file that cannot continue this run.

    Raises:
        CheckpointError: If it has no state of a run, or counted passes of another size.
    """
    meta = checkpoint.get('meta') or {}
    lacking = [name for name in ('iter', 'epoch') if not isinstance(meta.get(name), int)]
    lacking = [f'meta.{name}' for name in lacking]
    lacking += [name for name in ('message_hub',) if not isinstance(checkpoint.get(name), dict)]
    if lacking:
        raise CheckpointError(
            f'Cannot resume from {path}: it holds weights, but not the state of a run '
            f'({", ".join(lacking)}). Start a new run from it with --load-from')
    before, now = meta.get('images_a_pass'), _images_per_pass(runner)
    if before not in (None, now):
        raise CheckpointError(
            f'Cannot resume from {path}: a forward pass of all processes took {before} images '
            f'when the run began and would take {now}, so its steps cannot be counted on. Resume '
            'with as many processes times train_dataloader.batch_size as before, or start a new '
            'run from the weights with --load-from')


def _check_trainable(model: nn.Module, fresh: Sequence[str], path: str) -> None:
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    missing = [key for key in fresh if key in trainable]
    if missing:
        raise CheckpointError(
            f'Cannot resume from {path}: the checkpoint lacks {len(missing)} trainable '
            f'parameters, the first is {missing[0]}')


def _images_per_pass(runner: Runner) -> int | None:
    """Images of one forward pass of all processes."""
    batch = runner.train_dataloader.batch_size
    return batch and batch * runner.world_size
