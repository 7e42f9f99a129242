# Copyright (c) mvp_mm authors. All rights reserved.
"""Save and leave when the scheduler says so."""
from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce, barrier
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mvp_mm.engine.saving import VerifiedCheckpointHook
from mvp_mm.registry import HOOKS

# "Try again later" of sysexits.h: tools/slurm_train.sh puts such a job back into the queue.
EXIT_CODE = 75


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Save a checkpoint and exit with code 75 after SIGTERM or SIGUSR1.

    Slurm sends them before a job's time ends or when it is preempted; torchrun hands SIGTERM on
    to its workers. The run ends after the optimizer's next step, on all ranks at the same one,
    so that ``--resume`` continues it exactly. Signals that come again change nothing: a launcher
    and a scheduler may both send one.

    Args:
        signals: Names of the signals.
        interval: Ranks ask each other so often, in iterations; alone, a process looks after each.
    """

    # After the checkpoint hook, which may have saved this iteration already.
    priority = 'LOWEST'

    def __init__(self, signals: Sequence[str] = ('SIGTERM', 'SIGUSR1'),
                 interval: int = 10) -> None:
        self.signals = [signal.Signals[name] for name in signals]
        self.interval = interval
        self._previous: dict[signal.Signals, Any] = {}
        self._received: signal.Signals | None = None
        self._saver: VerifiedCheckpointHook | None = None
        self._process = os.getpid()

    def before_train(self, runner: Runner) -> None:
        """Take the signals over; without a hook that saves, leave them as they are."""
        if threading.current_thread() is not threading.main_thread():
            runner.logger.warning('PreemptionHook: signals reach the main thread alone; this run '
                                  'will not be saved at a signal')
            return
        self._saver = next((hook for hook in runner.hooks
                            if isinstance(hook, VerifiedCheckpointHook)), None)
        if self._saver is None:
            runner.logger.warning('PreemptionHook: default_hooks.checkpoint is no '
                                  'VerifiedCheckpointHook; this run will not be saved at a signal')
            return
        self._process = os.getpid()
        for number in self.signals:
            self._previous[number] = signal.signal(number, self._note)

    def _note(self, number: int, _: Any) -> None:
        if os.getpid() != self._process:  # a forked worker, which has to end as it always does
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._received = signal.Signals(number)

    def after_train(self, runner: Runner) -> None:
        """Put the handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: Any = None) -> None:
        """Save and exit where a signal has come on any rank."""
        if not runner.optim_wrapper.should_update() or not self._asked(runner):
            return  # gradients of a half-accumulated step would be lost
        if runner.iter + 1 == runner.max_iters:
            return  # the run ends by itself, and saves
        path = self._saver.save_now(runner)
        name = self._received.name if self._received else 'a signal on another rank'
        runner.logger.warning(f'Stopped by {name} after iteration {runner.iter + 1}; saved as '
                              f'{path}. Continue with --resume. Exit code {EXIT_CODE}')
        barrier()  # launchers kill the other ranks as soon as one has left
        sys.exit(EXIT_CODE)

    def _asked(self, runner: Runner) -> bool:
        """Whether any rank has got a signal; the same answer on all of them."""
        if runner.world_size == 1:
            return self._received is not None
        passes = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        if (runner.iter + 1) // passes % self.interval:
            return False
        flag = torch.tensor(int(self._received is not None))
        all_reduce(flag)
        return bool(flag)
