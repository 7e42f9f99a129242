# Copyright (c) mvp_mm authors. All rights reserved.
"""Logs the first and the last step of a run too."""
from __future__ import annotations

from collections.abc import Sequence

from mmengine.hooks import LoggerHook
from mmengine.runner import Runner

from mvp_mm.registry import HOOKS


@HOOKS.register_module()
class StepLoggerHook(LoggerHook):
    """Logs every ``interval`` steps of training, and always the first and the last.

    So a run shows its loss at once, and one that is shorter than the interval shows it at all. The
    first step is that of the process: after a resume, the first one done again.

    Arguments: see :class:`mmengine.hooks.LoggerHook`.
    """

    _is_first = True

    def before_train(self, runner: Runner) -> None:
        """Wait for the first step."""
        super().before_train(runner)
        self._is_first = True

    def after_train_iter(self, runner: Runner, batch_idx: int,
                         data_batch: dict | tuple | list | None = None,
                         outputs: dict | Sequence | None = None) -> None:
        """Log a step.

        Args:
            runner: The runner.
            batch_idx: Number of the batch, from 0.
            data_batch: The batch.
            outputs: What the model returned.
        """
        is_first, self._is_first = self._is_first, False
        is_last = runner.iter + 1 >= runner.max_iters
        if not (is_first or is_last or self.every_n_inner_iters(batch_idx, self.interval)):
            return
        tag, line = runner.log_processor.get_log_after_iter(runner, batch_idx, 'train')
        runner.logger.info(line)
        runner.visualizer.add_scalars(tag, step=runner.iter + 1, file_path=self.json_log_path)
