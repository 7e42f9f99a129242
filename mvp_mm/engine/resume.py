# Copyright (c) mvp_mm authors. All rights reserved.
"""A resumed run continues bit for bit: seeds per iteration, and what a checkpoint must hold."""
from __future__ import annotations

import copy
from typing import Any

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner

from mvp_mm.datasets.draws import seed_globals
from mvp_mm.engine.run_state import schedule_states
from mvp_mm.registry import HOOKS
from mvp_mm.utils.checkpoint_io import CheckpointError

UNFINISHED = 'unfinished_step'


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes ``2 N`` iterations equal ``N`` iterations, a checkpoint, and ``N`` more.

    Before every training iteration the global generators are seeded by (seed, rank, iteration):
    sampled points, denoising noise and dropout then follow from where the run is, and differ by
    rank. The data follow from (seed, epoch, index) by themselves, see
    :class:`~mvp_mm.datasets.draws.DrawnIndex`.

    A checkpoint between the forward passes of a gradient accumulation holds the weights of the
    last optimizer step. The schedules of that step are saved with it, and a resumed run repeats
    the passes of the unfinished step. Logged histories are cut to the window that the log
    averages over, so that checkpoints do not grow with the run.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._step_start: dict[str, Any] = {}

    def before_train(self, runner: Runner) -> None:
        """Warn where the sampler's indices carry no draw."""
        loader = runner.train_dataloader
        sampler = getattr(loader.batch_sampler, 'sampler', loader.sampler)
        if not getattr(sampler, 'tells_draws', False):
            runner.logger.warning(
                f'{type(sampler).__name__} does not say which draw an index is: random transforms '
                'of a resumed run differ from those of an uninterrupted one. InfiniteSampler and '
                'RatioSampler continue exactly.')

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the global generators; note the schedules where an optimizer step begins."""
        seed_globals(runner.seed, get_rank(), runner.iter)
        if not _unfinished(runner.optim_wrapper):
            self._step_start = dict(
                iter=runner.iter, param_schedulers=schedule_states(runner),
                param_groups=_settings(runner.optim_wrapper.param_groups))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Cut the histories; add the start of a step that is not finished."""
        scalars = checkpoint['message_hub']['log_scalars']
        kept = _log_window(runner)
        for name, history in scalars.items():
            values, counts = history.data
            scalars[name] = HistoryBuffer(values[-kept:], counts[-kept:], history.max_length)
        if _unfinished(runner.optim_wrapper):
            checkpoint[UNFINISHED] = copy.deepcopy(self._step_start)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse what cannot be continued; go back to the start of an unfinished step.

        Raises:
            CheckpointError: If a run is resumed without its optimizer state or schedules, or with
                another seed.
        """
        if not runner.cfg.get('resume'):
            return
        path = runner.cfg.get('load_from')
        _check_complete(runner, checkpoint, path)
        start = checkpoint.pop(UNFINISHED, None)
        if start is None:
            return
        runner.logger.info(
            f'{path} lies {checkpoint["meta"]["iter"] - start["iter"]} forward passes into an '
            f'optimizer step; they are repeated, from iteration {start["iter"]}')
        checkpoint['meta']['iter'] = start['iter']
        if start['param_schedulers'] is not None:
            checkpoint['param_schedulers'] = start['param_schedulers']
        groups = [*checkpoint['optimizer']['param_groups']]
        if checkpoint['optimizer'].get('base_param_settings') is not None:
            groups.append(checkpoint['optimizer']['base_param_settings'])
        for group, settings in zip(groups, start['param_groups'], strict=True):
            group.update(settings)


def _check_complete(runner: Runner, checkpoint: dict, path: str | None) -> None:
    """Compare what a checkpoint holds with what the run needs to continue."""
    lacking = [name for name, needed in (
        ('optimizer', True), ('param_schedulers', bool(runner.cfg.get('param_scheduler'))))
        if needed and name not in checkpoint]
    if lacking:
        raise CheckpointError(
            f'Cannot resume from {path}: it holds no state of the {" and ".join(lacking)}, which '
            'would start anew. Start a new run from its weights with --load-from, or resume from '
            'a checkpoint written with save_optimizer=True and save_param_scheduler=True')
    seed = checkpoint.get('meta', {}).get('seed')
    if seed is not None and seed != runner.seed:
        raise CheckpointError(
            f'Cannot resume from {path}: the run began with randomness.seed={seed}, this one has '
            f'{runner.seed} and would see other images. Give --cfg-options randomness.seed={seed}')


def _unfinished(wrapper: Any) -> bool:
    """Whether gradients of an optimizer step are accumulated that has not been taken."""
    count = wrapper.inner_count
    return count % wrapper._accumulative_counts != 0 and count != wrapper._max_counts


def _settings(groups: list[dict]) -> list[dict]:
    """Learning rates and other settings of parameter groups, without the parameters."""
    return [{key: value for key, value in group.items() if key != 'params'} for group in groups]


def _log_window(runner: Runner) -> int:
    """How many values of a history a log line may average over."""
    processor = runner.log_processor
    windows = [cfg.get('window_size') for cfg in processor.custom_cfg]
    return max([processor.window_size, *(w for w in windows if isinstance(w, int))])
