# Copyright (c) mvp_mm authors. All rights reserved.
"""Save checkpoints that are whole, finite and read back before an older one goes."""
from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
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

from mvp_mm.engine.hooks import unwrap
from mvp_mm.engine.restart import JOB_KEY, slurm_job
from mvp_mm.registry import HOOKS
from mvp_mm.utils.atomic import remove_parts, write_bytes, write_text
from mvp_mm.utils.checkpoint_format import check_sums, check_zip

POINTER = 'last_checkpoint'
_BACKEND = 'mvp_mm_verified'
# mmengine passes the arguments of a backend on as JSON.
_WRITERS: WeakValueDictionary[str, CheckpointWriter] = WeakValueDictionary()


class CheckpointWriter:
    """Writes one checkpoint at a time: temporary file, flush, read back, rename.

    Args:
        asynchronous: Write in a thread, from the bytes that are already in memory; the next
            write waits for it, and gets its error.
    """

    def __init__(self, asynchronous: bool = False) -> None:
        self.asynchronous = asynchronous
        self._outdated: list[Path] = []
        self._finish: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def finish_with(self, action: Callable[[], None]) -> None:
        """Do something once the next checkpoint is safe."""
        self._finish = action

    def remove(self, path: str | Path) -> None:
        """Remove a file once the next checkpoint is safe."""
        self._outdated.append(Path(path))

    def write(self, content: bytes, path: str | Path) -> None:
        """Write a checkpoint.

        Raises:
            WriteError: If this one, or without waiting the one before, cannot be written.
        """
        self.wait()
        outdated, self._outdated = self._outdated, []
        finish, self._finish = self._finish, None
        job = (content, Path(path), outdated, finish)
        if not self.asynchronous:
            self._write(*job)
            return
        self._thread = threading.Thread(target=self._write_aside, args=job)
        self._thread.start()

    def wait(self) -> None:
        """Wait for the thread; raise what it ended with."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _write_aside(self, *job: Any) -> None:
        try:
            self._write(*job)
        except BaseException as error:  # handed to the thread that trains
            self._error = error

    @staticmethod
    def _write(content: bytes, path: Path, outdated: list[Path],
               finish: Callable[[], None] | None) -> None:
        write_bytes(path, content, verify=_read_back)
        if finish is not None:
            finish()
        for old in outdated:
            if old != path:
                old.unlink(missing_ok=True)


def _read_back(path: Path) -> None:
    check_zip(path)
    check_sums(path)


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
        asynchronous: Write in a thread while the training goes on. The weights are copied to
            memory before; the run waits for the copy alone.
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
        refuse_not_finite(runner)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = str(Path(self.out_dir) / name)
        runner.message_hub.update_info('last_ckpt', name)
        if self.max_keep_ckpts > 0:
            self._kept = [kept for kept in self._kept if kept != step] + [step]
            runner.message_hub.update_info('keep_ckpt_ids', list(self._kept))
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
    model = unwrap(runner.model)
    names, flags = [], []
    for name, value in _saved_tensors(model, runner.optim_wrapper):
        local = value.to_local() if hasattr(value, 'to_local') else value
        if local.is_floating_point() and local.numel():
            names.append(name)
            flags.append(local.detach().isfinite().all())
    broken = ~torch.stack([flag.to(flags[0].device) for flag in flags]) if flags else \
        torch.zeros(0, dtype=torch.bool)
    count = broken.sum().to(torch.int64)
    first = names[int(broken.nonzero()[0])] if count else 'on another rank'
    here = int(count)
    all_reduce(count)
    if count:
        raise FloatingPointError(
            f'Nothing is saved at iteration {runner.iter + 1}: {here} tensors of weights and '
            f'moments hold values that are not finite, the first is {first}. Earlier '
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
