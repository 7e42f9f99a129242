# Copyright (c) mvp_mm authors. All rights reserved.
"""A step that is not finite is skipped, explained and kept for a replay, or the run stops."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mvp_mm.engine.batch_dumps import write_dump
from mvp_mm.engine.diagnosis import ForwardPass, Origin, find_fault, scalar_losses
from mvp_mm.engine.hooks import unwrap
from mvp_mm.engine.optim_wrappers import FiniteOptimWrapper
from mvp_mm.registry import HOOKS


@HOOKS.register_module()
class FiniteStepHook(Hook):
    """Says what was first not finite in a step that the optimizer has not taken.

    :class:`~mvp_mm.engine.optim_wrappers.FiniteOptimWrapper` checks losses, the costs of the
    matching and the gradient norm on the device and skips a bad step on all ranks. This hook then
    looks at images, weights, losses and gradients in turn, logs one message with iteration and
    images, and writes the batch to ``<work folder>/non_finite``, which
    ``tools/misc/replay_batch.py`` runs again. A weight that is not finite stops the run at once.

    Args:
        max_skips: Bad steps in a row that are skipped; one more stops the run with a
            ``FloatingPointError``. 0 stops at the first.
        max_dumps: Batches that a rank writes at most in one run; 0 writes none.

    Raises:
        ValueError: If a number is negative, or the optimizer wrapper makes no such check.
    """

    def __init__(self, max_skips: int = 5, max_dumps: int = 10) -> None:
        for name, value in (('max_skips', max_skips), ('max_dumps', max_dumps)):
            if not isinstance(value, int) or value < 0:
                raise ValueError(f'FiniteStepHook.{name} must be a whole number from 0 on, got '
                                 f'{value!r}')
        self.max_skips = max_skips
        self.dumps_left = max_dumps
        self._runner: Runner | None = None
        self._passes: list[ForwardPass] = []
        self._matchers: list[nn.Module] = []
        self._just_skipped = False
        self._handle: torch.utils.hooks.RemovableHandle | None = None

    def before_train(self, runner: Runner) -> None:
        """Attach to the model and to the optimizer wrapper."""
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, FiniteOptimWrapper):
            raise ValueError(
                f'FiniteStepHook needs an optim_wrapper that checks its steps, '
                f'{type(wrapper).__name__} does not: use AutocastOptimWrapper (dtype bfloat16, '
                'float16 or None)')
        model = unwrap(runner.model)
        self._runner = runner
        self._matchers = [m for m in model.modules() if hasattr(m, 'saw_bad_costs')]
        self._handle = model.register_forward_hook(self._keep_losses)
        wrapper.on_skip = self._skipped
        wrapper.alarm = self._bad_costs

    def after_train(self, runner: Runner) -> None:
        """Detach from the model."""
        self._handle.remove()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Keep the batch until the step that it belongs to is taken."""
        wrapper = runner.optim_wrapper
        if wrapper.inner_count % wrapper._accumulative_counts == 0:
            self._passes.clear()
        self._passes.append(ForwardPass(runner.iter, data_batch))

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: dict | None = None) -> None:
        """Leave the losses of a skipped step out of the averages that are logged."""
        if not self._just_skipped:
            return
        self._just_skipped = False
        for name, history in runner.message_hub.log_scalars.items():
            if name.startswith('train/'):
                values, counts = (x[-len(self._passes):] for x in history.data)
                bad = ~np.isfinite(values)
                values[bad], counts[bad] = 0, 0

    def _keep_losses(self, model: nn.Module, args: tuple, output: Any) -> None:
        if model.training and isinstance(output, dict) and self._passes:
            last = self._passes[-1]
            last.losses = scalar_losses(output)
            last.bad_costs = any(matcher.saw_bad_costs for matcher in self._matchers)
            for matcher in self._matchers:
                matcher.saw_bad_costs = False

    def _bad_costs(self) -> bool:
        return any(one.bad_costs for one in self._passes)

    def _skipped(self, norm: float, loss_finite: bool) -> None:
        """Explain a skipped step; called on all ranks.

        Raises:
            FloatingPointError: If the run is to stop.
        """
        runner, wrapper = self._runner, self._runner.optim_wrapper
        self._just_skipped = True
        fault = find_fault(unwrap(runner.model), self._passes)
        faults = all_gather_object(fault)
        first = min(faults)
        ranks = [rank for rank, other in enumerate(faults) if other.origin == first.origin]
        images = list(dict.fromkeys(name for rank in ranks for name in faults[rank].images))
        where = f' (rank {", ".join(map(str, ranks))})' if len(faults) > 1 else ''
        message = (f'Not finite at iteration {runner.iter + 1}{where}: {first}. '
                   f'Gradient norm {norm}. Images: {images}')
        if get_rank() in ranks and self.dumps_left and first.origin != Origin.WEIGHT:
            self.dumps_left -= 1
            path = write_dump(Path(runner.work_dir) / 'non_finite', runner,
                              [self._passes[i] for i in fault.passes], message)
            message += f'. Replay: tools/misc/replay_batch.py CONFIG {path}'
        runner.message_hub.update_info('skipped_steps', wrapper.skipped)
        if first.origin == Origin.WEIGHT or wrapper.skipped_in_a_row > self.max_skips:
            raise FloatingPointError(
                f'{message}. {wrapper.skipped_in_a_row} bad steps in a row, '
                f'FiniteStepHook.max_skips={self.max_skips}; the last good weights are in the '
                'newest checkpoint')
        runner.logger.warning(f'{message}. Step skipped, {wrapper.skipped_in_a_row} in a row, '
                              f'{wrapper.skipped} in all')
