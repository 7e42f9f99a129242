# Copyright (c) mvp_mm authors. All rights reserved.
"""Ends runs that are stuck, and ranks whose launcher is gone."""
from __future__ import annotations

import ctypes
import faulthandler
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from mmengine.dist import all_gather_object, get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mvp_mm.registry import HOOKS

EXIT_STALLED = 87
EXIT_ORPHANED = 88
# A process prints its Python stacks when it gets this signal.
STACK_SIGNAL = signal.SIGUSR2
_PR_SET_PDEATHSIG = 1
_launcher: list[int] = []


def end_with_launcher() -> None:
    """Have this process get SIGTERM when the process that started it ends (Linux alone).

    torchrun that is killed with ``kill -9`` leaves its ranks training, or waiting for each other
    before they have met.
    """
    _launcher[:] = [os.getpid(), os.getppid()]
    if sys.platform == 'linux':
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Watchdog(threading.Thread):
    """Ends the process when a call of the main thread makes no progress.

    Args:
        frame: The call that is watched; the thread ends with it.
        stall_timeout: Seconds without progress.
        grace: Seconds between the printed stacks and the end, for other ranks to print theirs.
        folder: Where stacks are written too, as ``stacks_rank<r>.txt``.
        peers: Process ids of the other ranks of this node, by rank.
    """

    def __init__(self, frame: FrameType, stall_timeout: float, grace: float, folder: Path,
                 peers: Mapping[int, int] | None = None) -> None:
        super().__init__(name='watchdog', daemon=True)
        self._frame: FrameType | None = frame
        self._watched = threading.get_ident()
        self.stall_timeout = stall_timeout
        self.grace = grace
        self.folder = folder
        self.peers = dict(peers or {})
        self.stopped = threading.Event()
        # None without a launcher: a run under nohup outlives its shell. A fork inherits the note of
        # its parent, whose launcher is not its own.
        noted = _launcher and _launcher[0] == os.getpid()
        self._parent = _launcher[1] if noted else None
        self._last = self._armed = float('-inf')
        self._doing = ''
        self.progress('starting')

    def progress(self, doing: str) -> None:
        """Note that something was finished.

        Args:
            doing: What begins now.
        """
        self._doing = doing
        self._last = time.monotonic()
        if self._last - self._armed > self.stall_timeout / 10:
            # Also ends a process whose threads cannot run, for want of the interpreter's lock.
            self._armed = self._last
            faulthandler.dump_traceback_later(
                1.1 * self.stall_timeout + 2 * self.grace + 10, exit=True, file=sys.__stderr__)

    def run(self) -> None:
        """Look at the clock until the call has ended."""
        pause = min(1.0, self.stall_timeout / 10)
        orphaned = None
        while not self.stopped.wait(pause) and self._still_runs():
            now = time.monotonic()
            if now - self._last > self.stall_timeout:
                self._end(f'no progress for {now - self._last:.0f} s', EXIT_STALLED)
            if self._parent is not None and os.getppid() != self._parent:
                orphaned = orphaned or now
                if now - orphaned > self.grace:
                    self._end(f'its launcher (pid {self._parent}) is gone', EXIT_ORPHANED)
        faulthandler.cancel_dump_traceback_later()
        self._frame = None

    def _still_runs(self) -> bool:
        frame = sys._current_frames().get(self._watched)
        while frame is not None and frame is not self._frame:
            frame = frame.f_back
        return frame is not None

    def _end(self, reason: str, code: int) -> None:
        rank = get_rank()
        text = (f'\nrank {rank} (pid {os.getpid()}): {reason}, while {self._doing}. The run ends '
                f'with exit code {code}. Python stacks:\n')
        children = multiprocessing.active_children()
        text += ''.join(f'  worker {child.name} (pid {child.pid}): {_state(child.pid)}\n'
                        for child in children)
        text += ''.join(f'  rank {other} (pid {pid}): {_state(pid)}\n'
                        for other, pid in self.peers.items())
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / f'stacks_rank{rank}.txt', 'w', encoding='utf-8') as file:
            for out in (sys.__stderr__, file):
                out.write(text)
                out.flush()
                faulthandler.dump_traceback(out, all_threads=True)
        for child in children:
            os.kill(child.pid, STACK_SIGNAL)
        for pid in self.peers.values():
            if _state(pid).startswith('T') and _parent(pid) == os.getppid():
                # A frozen rank prints its stacks first of all when it is woken.
                os.kill(pid, STACK_SIGNAL)
                os.kill(pid, signal.SIGCONT)
        time.sleep(self.grace)
        for child in children:
            os.kill(child.pid, signal.SIGKILL)
        os._exit(code)


def _state(pid: int) -> str:
    """What the kernel says about a process, such as ``T (stopped)``."""
    return _status(pid, 'State') or 'gone'


def _parent(pid: int) -> int:
    return int(_status(pid, 'PPid') or 0)


def _status(pid: int, field: str) -> str:
    try:
        lines = Path(f'/proc/{pid}/status').read_text().splitlines()
    except OSError:
        return ''
    return next((line.split(None, 1)[1] for line in lines if line.startswith(f'{field}:')), '')


@HOOKS.register_module()
class WatchdogHook(Hook):
    """Ends a run that is stuck, and prints where every rank and worker was.

    A rank that finishes no iteration for ``stall_timeout`` seconds prints the Python stacks of
    its threads and of its data-loader workers, writes them to ``stacks_rank<r>.txt`` beside the
    log, and ends with exit code 87. It names the state of the other ranks of its node, and wakes
    one that is frozen (``kill -STOP``) so that it prints its stacks too. ``kill -USR2 <pid>``
    prints the stacks of a process at any time. A rank whose launcher is gone gets SIGTERM at once
    (see :func:`end_with_launcher`) and ends with code 88 if that has not ended it after ``grace``
    seconds.

    Args:
        stall_timeout: Seconds without a finished iteration, of training, validation or test.
            Loading, evaluation and saving have to fit as well. Below
            ``env_cfg.dist_cfg.timeout``, after which the ranks give each other up, so that the
            stacks come first.
        worker_timeout: Seconds that a batch of a worker may take, for data loaders whose
            ``timeout`` is 0.
        grace: Seconds between the stacks and the end.

    Raises:
        ValueError: If a number is not positive.
    """

    priority = 'VERY_HIGH'

    def __init__(self, stall_timeout: float = 1500.0, worker_timeout: float = 600.0,
                 grace: float = 10.0) -> None:
        settings = dict(stall_timeout=stall_timeout, worker_timeout=worker_timeout, grace=grace)
        for name, value in settings.items():
            if not isinstance(value, (int, float)) or not 0 < value < float('inf'):
                raise ValueError(f'WatchdogHook.{name} must be a number of seconds above 0, got '
                                 f'{value!r}')
        self.stall_timeout = stall_timeout
        self.worker_timeout = worker_timeout
        self.grace = grace
        self._watchdog: Watchdog | None = None

    def before_run(self, runner: Runner) -> None:
        """Start watching the runner's call."""
        # Workers are forked later and inherit this.
        faulthandler.register(STACK_SIGNAL, file=sys.__stderr__, all_threads=True)
        frame = sys._getframe()
        while frame.f_code.co_name not in ('train', 'val', 'test'):
            frame = frame.f_back
        self._watchdog = Watchdog(
            frame, self.stall_timeout, self.grace, Path(runner.log_dir), _ranks_of_this_node())
        self._watchdog.start()

    def after_run(self, runner: Runner) -> None:
        """Stop watching."""
        self._watchdog.stopped.set()
        self._watchdog.join()

    def before_train(self, runner: Runner) -> None:
        """Give the workers of training their time-out."""
        self._limit([runner.train_dataloader])

    def before_val(self, runner: Runner) -> None:
        """Give the workers of validation their time-out."""
        self._limit(_loaders(runner.val_dataloader))

    def before_test(self, runner: Runner) -> None:
        """Give the workers of the test their time-out."""
        self._limit(_loaders(runner.test_dataloader))

    def _limit(self, loaders: Iterable[DataLoader]) -> None:
        for loader in loaders:
            if loader.num_workers and not loader.timeout:
                loader.timeout = self.worker_timeout

    def _before_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                     mode: str = 'train') -> None:
        self._watchdog.progress(f'in {mode} iteration {_number(runner, batch_idx, mode)}')

    def _after_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                    outputs: Any = None, mode: str = 'train') -> None:
        self._watchdog.progress(
            f'waiting after {mode} iteration {_number(runner, batch_idx, mode)}, for data, '
            'saving or evaluation')


def _ranks_of_this_node() -> dict[int, int]:
    """Process ids of the other ranks of this node, by rank; all ranks have to ask."""
    here = socket.gethostname()
    places = all_gather_object((here, os.getpid()))
    return {rank: pid for rank, (host, pid) in enumerate(places)
            if host == here and rank != get_rank()}


def _number(runner: Runner, batch_idx: int, mode: str) -> int:
    return (runner.iter if mode == 'train' else batch_idx) + 1


def _loaders(loader: Any) -> Iterable[DataLoader]:
    """The data loaders of a loop, one or several by name."""
    return getattr(loader, 'loaders', {'': loader}).values()
