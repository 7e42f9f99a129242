# Copyright (c) mvp_mm authors. All rights reserved.
"""Save checkpoints that are whole, finite and read back before an older one goes."""
from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from mvp_mm.engine.checkpoint_writer import CheckpointWriter
from mvp_mm.engine.hooks import unwrap
from mvp_mm.engine.restart import JOB_KEY, slurm_job
from mvp_mm.registry import HOOKS
from mvp_mm.utils.atomic import remove_parts, write_text

POINTER = 'last_checkpoint'
_BACKEND = 'mvp_mm_verified'
# mmengine passes the arguments of a backend on as JSON.
_WRITERS: WeakValueDictionary[str, CheckpointWriter] = WeakValueDictionary()


class VerifiedBackend(LocalBackend):
    """mmengine's access to local files, with writing and removing left to a writer.

    Args:
        writer: Its key.
    """

    def __init__(self, writer: str) -> None:
        super().__init__()
        self.writer = _WRITERS[writer]

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a checkpoint."""
        self.writer.write(obj, filepath)

    def remove(self, filepath: str | Path) -> None:
        """Remove a file once the next checkpoint is safe."""
        self.writer.remove(filepath)


register_backend(_BACKEND, VerifiedBackend, force=True)


@HOOKS.register_module()
class VerifiedCheckpointHook(CheckpointHook):
    """Save checkpoints that a run can rely on, whatever ends it.

    A checkpoint is written under a temporary name, flushed to the disk, read back by its
    checksums and then renamed; only then ``last_checkpoint`` names it and older ones go. Weights
    and moments are looked at before: a run whose weights are not finite stops, on all ranks, and
    what was saved stays. ``last_checkpoint`` holds a name, not a path, so that a run folder can
    be moved.

    Args:
        asynchronous: Write in a thread while the training goes on, which waits for a copy of
            weights and moments in memory alone. The copy takes as much memory as the file, until
            it is written. A save waits for one that still runs; an error ends the run at its
            next iteration.
        settings: Those of mmengine's ``CheckpointHook``, for a local folder.

    Raises:
        ValueError: If a setting is unknown.
    """

    def __init__(self, asynchronous: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        if self.args:
            raise ValueError(f'VerifiedCheckpointHook has no setting {sorted(self.args)[0]!r}')
        self.writer = CheckpointWriter(asynchronous)
        self.backend_args = dict(backend=_BACKEND, writer=str(id(self.writer)))
        _WRITERS[str(id(self.writer))] = self.writer
        self._saved_step: int | None = None

    def before_train(self, runner: Runner) -> None:
        """Prepare the folder; remove what a killed save has left."""
        super().before_train(runner)
        self._kept = list(getattr(self, 'keep_ckpt_ids', ()))
        if is_main_process():
            for name in (*remove_parts(self.out_dir, '*.pth'),
                         *remove_parts(runner.work_dir, POINTER)):
                runner.logger.info(f'{name}: removed, a save that was cut short')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note when the checkpoint is saved, and by which job; a copy of the file keeps it."""
        checkpoint['meta']['saved_at'] = time.time()
        job = slurm_job()
        if job is not None:
            checkpoint['meta'][JOB_KEY] = job

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: Any = None) -> None:
        """Raise the error of a thread that has failed; save where a save is due."""
        self.writer.raise_error()
        super().after_train_iter(runner, batch_idx, data_batch, outputs)

    def after_train(self, runner: Runner) -> None:
        """Wait for the last save."""
        self.writer.wait()
        super().after_train(runner)

    def save_now(self, runner: Runner) -> str:
        """Save at the end of an iteration, whatever the interval, and wait for it.

        Returns:
            Path of the checkpoint.
        """
        if self._saved_step != runner.iter + 1:
            self._save_checkpoint(runner)
        self.writer.wait()
        return self.last_ckpt

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        self.writer.wait()  # before there are two copies in memory
        refuse_not_finite(runner)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = str(Path(self.out_dir) / name)
        runner.message_hub.update_info('last_ckpt', name)
        if self.max_keep_ckpts > 0:
            self._kept = [kept for kept in self._kept if kept != step] + [step]
            runner.message_hub.update_info('keep_ckpt_ids', list(self._kept))
            if is_main_process():  # which writes
                for old in self._kept[:-self.max_keep_ckpts]:
                    self.writer.remove(Path(self.out_dir) / self.filename_tmpl.format(old))
            self._kept = self._kept[-self.max_keep_ckpts:]
        inside = Path(self.out_dir).resolve() == Path(runner.work_dir).resolve()
        pointer = Path(runner.work_dir) / POINTER
        target = name if inside else str(Path(self.last_ckpt).resolve())
        self.writer.finish_with(lambda: write_text(pointer, target))
        runner.save_checkpoint(
            self.out_dir, name, save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler, meta=meta, by_epoch=self.by_epoch,
            backend_args=self.backend_args)
        self._saved_step = runner.iter + 1


def refuse_not_finite(runner: Runner) -> None:
    """Look at all weights and moments where they are; all ranks agree.

    Raises:
        FloatingPointError: If one is not finite on any rank.
    """
    names, values = [], []
    for name, value in _saved_tensors(unwrap(runner.model), runner.optim_wrapper):
        local = (value.to_local() if hasattr(value, 'to_local') else value).detach()
        if local.is_floating_point() and local.numel():
            names.append(name)
            values.append(local)
    # A finite sum has finite terms, and adding is the fastest look at them; finite ones may
    # overflow.
    sums = torch.stack([value.sum().to(values[0].device) for value in values]) if values else \
        torch.zeros(1)
    broken = [] if sums.isfinite().all() else [
        name for name, value in zip(names, values, strict=True) if not value.isfinite().all()]
    count = torch.tensor(len(broken))
    all_reduce(count)
    if count:
        raise FloatingPointError(
            f'Nothing is saved at iteration {runner.iter + 1}: {len(broken)} tensors of weights '
            'and moments hold values that are not finite, the first is '
            f'{broken[0] if broken else "on another rank"}. Earlier '
            'checkpoints are as they were; --resume goes on from the newest one')


def _saved_tensors(model: nn.Module, optim_wrapper: Any) -> Iterator[tuple[str, Tensor]]:
    """Everything of a run that training changes and a checkpoint holds."""
    names = {}
    for name, parameter in model.named_parameters():
        names[id(parameter)] = name
        yield name, parameter
    for prefix, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name not in module._non_persistent_buffers_set:
                yield f'{prefix}.{name}'.lstrip('.'), buffer
    wrappers = [optim_wrapper] if isinstance(optim_wrapper, OptimWrapper) else \
        list(getattr(optim_wrapper, 'values', list)())
    for wrapper in wrappers:
        for parameter, state in wrapper.optimizer.state.items():
            for key, value in state.items():
                if isinstance(value, Tensor):
                    yield f'{key} of {names.get(id(parameter), "a parameter")}', value
