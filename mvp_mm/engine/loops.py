# Copyright (c) mvp_mm authors. All rights reserved.
"""Validation and test loops over several named datasets, each with its own metrics."""
from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from mmengine.dist import all_gather_object, all_reduce, get_world_size, is_main_process
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.runner import BaseLoop, Runner
from torch.utils.data import DataLoader, Dataset

from mvp_mm.engine.hooks import unwrap
from mvp_mm.engine.optim_wrappers import DTYPES
from mvp_mm.evaluation.scoring import TolerantEvaluator, evaluate_metrics, meta_of
from mvp_mm.models.acceleration import accelerate_answers
from mvp_mm.registry import LOOPS


class NamedLoaders:
    """Counts several data loaders as one, so that progress and ETA cover all of them.

    Args:
        loaders: The loaders by the name of their dataset.
    """

    def __init__(self, loaders: dict[str, DataLoader]) -> None:
        self.loaders = loaders
        self.current = next(iter(loaders))

    def __len__(self) -> int:
        return sum(len(loader) for loader in self.loaders.values())

    def __iter__(self) -> Iterator[tuple[str, DataLoader]]:
        for name, loader in self.loaders.items():
            self.current = name
            yield name, loader

    @property
    def dataset(self) -> Dataset:
        """The dataset that is read now."""
        return self.loaders[self.current].dataset


class _MultiLoop(BaseLoop):
    """Runs several datasets in turn; validation and test share it.

    One item of a dataset may carry several instructions, so a step returns a flat list that may
    be longer than the batch; the evaluators are told the number of outputs, not of images.

    The metrics of a dataset are logged and written to ``<stage>_metrics.json`` beside the log as
    soon as they are computed: whatever happens to a later dataset, they are not lost.

    Args:
        runner: The runner.
        dataloader: A dataloader config by the name of the dataset.
        evaluator: A metric config, or a list of them, by the same names.
        dtype: ``'bfloat16'`` or ``'float16'`` to run the model under autocast, None for float32.

    Raises:
        ValueError: If loaders and evaluators have other names, there is no dataset, a sampler
            repeats items on several ranks, or ``dtype`` is another one.
    """

    stage: str

    def __init__(
        self,
        runner: Runner,
        dataloader: dict[str, dict],
        evaluator: dict[str, dict | list],
        dtype: str | None = None,
    ) -> None:
        if dataloader.keys() != evaluator.keys():
            raise ValueError(
                f'{self.stage}_dataloader names {sorted(dataloader)} but {self.stage}_evaluator '
                f'names {sorted(evaluator)}; they must be the same')
        if dtype not in DTYPES:
            raise ValueError(f"{self.stage}_cfg.dtype must be 'bfloat16', 'float16' or None, got "
                             f'{dtype!r}')
        if not dataloader:
            raise ValueError(f'{self.stage}_dataloader names no dataset')
        loaders = {}
        self.evaluators: dict[str, Evaluator] = {}
        for name, cfg in dataloader.items():
            loaders[name] = runner.build_dataloader(cfg, seed=runner.seed)
            self._check_sampler(name, loaders[name])
            self.evaluators[name] = TolerantEvaluator(
                runner.build_evaluator(evaluator[name]).metrics)
            self.evaluators[name].dataset_meta = meta_of(loaders[name].dataset)
        super().__init__(runner, NamedLoaders(loaders))
        self.dtype = DTYPES[dtype]
        # What went wrong in the last run, by the name of the dataset.
        self.problems: dict[str, str] = {}

    def _check_sampler(self, name: str, loader: DataLoader) -> None:
        """Refuse a sampler that repeats items to even out the ranks: they would be scored twice."""
        if get_world_size() > 1 and getattr(loader.sampler, 'round_up', False):
            raise ValueError(
                f"{self.stage}_dataloader.{name}.sampler repeats items to fill the ranks; set "
                "sampler=dict(type='DefaultSampler', shuffle=False, round_up=False)")

    def run(self) -> dict[str, float]:
        """Run all datasets in turn; one that cannot be measured loses no other's figures.

        Returns:
            All metrics, each under ``<dataset>/<metric>``. What could not be measured is logged as
            an error and noted in ``problems``.
        """
        self.runner.call_hook(f'before_{self.stage}')
        self.runner.call_hook(f'before_{self.stage}_epoch')
        self.runner.model.eval()
        metrics: dict[str, float] = {}
        self.problems = {}
        step = 0
        for name, loader in self.dataloader:
            scores, failures, step = self._run_dataset(name, loader, step)
            metrics.update({f'{name}/{key}': value for key, value in scores.items()})
            self._keep(name, metrics)
            if failures:
                self._note_problem(name, '; '.join(failures))
        self.runner.call_hook(f'after_{self.stage}_epoch', metrics=metrics)
        self.runner.call_hook(f'after_{self.stage}')
        return metrics

    def _run_dataset(self, name: str, loader: DataLoader,
                     step: int) -> tuple[dict[str, float], list[str], int]:
        """Run a dataset; its metrics, what went wrong, and the number of batches so far."""
        evaluator = self.evaluators[name]
        evaluator.failures.clear()
        self.runner.visualizer.dataset_meta = evaluator.dataset_meta
        outputs, problem = 0, ''
        try:
            for data_batch in loader:
                outputs += self.run_iter(step, data_batch, evaluator)
                step += 1
        except (KeyError, ValueError, OSError) as error:
            problem = str(error)
            MMLogger.get_current_instance().error(f'{name}: {problem}', exc_info=True)
        # Other ranks go on with the next dataset only together with this one.
        failures = [text for text in all_gather_object(problem) if text]
        # mmengine cuts the gathered results to this size; no sampler pads, so all are kept.
        size = torch.tensor(outputs)
        all_reduce(size)
        if failures:
            return {}, failures, step
        scores, failures = evaluate_metrics(evaluator, int(size))
        return scores, failures, step

    def _note_problem(self, name: str, problem: str) -> None:
        """Note a dataset that could not be measured, or not by every metric."""
        self.problems[name] = problem
        MMLogger.get_current_instance().error(f'{name}: {problem}')
        for metric in self.evaluators[name].metrics:
            metric.results.clear()

    def _file(self) -> Path:
        return Path(self.runner.log_dir) / f'{self.stage}_metrics.json'

    def _keep(self, name: str, metrics: dict[str, float]) -> None:
        """Log a dataset's metrics; write all that there are so far."""
        if not is_main_process():
            return
        scalars = {key: value for key, value in metrics.items() if isinstance(value, (int, float))}
        own = {key: value for key, value in scalars.items() if key.startswith(f'{name}/')}
        self.runner.logger.info(f'{self.stage} of {name}: ' + '  '.join(
            f'{key}: {value:.4f}' for key, value in own.items()))
        self._file().write_text(json.dumps(scalars, indent=2, sort_keys=True), encoding='utf-8')

    @torch.no_grad()
    def run_iter(self, step: int, data_batch: dict, evaluator: Evaluator) -> int:
        """Run one batch.

        Args:
            step: Number of the batch, counted over all datasets.
            data_batch: The collated batch.
            evaluator: Metrics of the dataset at hand.

        Returns:
            Number of outputs, one per instruction.
        """
        self.runner.call_hook(
            f'before_{self.stage}_iter', batch_idx=step, data_batch=data_batch)
        device = next(unwrap(self.runner.model).parameters()).device.type
        with torch.autocast(device, self.dtype) if self.dtype else nullcontext():
            outputs = getattr(self.runner.model, f'{self.stage}_step')(data_batch)
        evaluator.process(data_samples=outputs, data_batch=data_batch)
        self.runner.call_hook(
            f'after_{self.stage}_iter', batch_idx=step, data_batch=data_batch, outputs=outputs)
        return len(outputs)


@LOOPS.register_module()
class MultiValLoop(_MultiLoop):
    """Validates on several named datasets; see :class:`MultiTestLoop` for the config."""

    stage = 'val'


@LOOPS.register_module()
class MultiTestLoop(_MultiLoop):
    """Tests on several named datasets.

    Args:
        runner: The runner.
        dataloader: A dataloader config by the name of the dataset.
        evaluator: A metric config, or a list of them, by the same names.
        dtype: ``'bfloat16'`` or ``'float16'`` to run the model under autocast, None for float32.
        acceleration: Arguments of :func:`~mvp_mm.models.acceleration.accelerate_answers`, of
            which ``weights`` is named as ``dtype`` is; None runs the model as it is. The model
            cannot train afterwards.

    Example:
        >>> test_cfg = dict(type='MultiTestLoop', dtype='bfloat16',
        ...                 acceleration=dict(weights='bfloat16'))
        >>> test_dataloader = dict(panoptic=dict(...), refcoco=dict(...))
        >>> test_evaluator = dict(panoptic=[dict(...)], refcoco=[dict(...)])
    """

    stage = 'test'

    def __init__(self, runner: Runner, dataloader: dict[str, dict],
                 evaluator: dict[str, dict | list], dtype: str | None = None,
                 acceleration: dict | None = None) -> None:
        super().__init__(runner, dataloader, evaluator, dtype)
        self.acceleration = acceleration

    def run(self) -> dict[str, float]:
        """Accelerate the model where asked for, then run all datasets in turn."""
        if self.acceleration is not None:
            settings = dict(self.acceleration)
            weights = settings.pop('weights', None)
            if weights not in DTYPES or (weights and DTYPES[weights] != self.dtype):
                raise ValueError('test_cfg.acceleration.weights must be None or the same as '
                                 f'test_cfg.dtype, got {weights!r}')
            self.runner.model.eval()
            accelerate_answers(unwrap(self.runner.model), DTYPES[weights], **settings)
            self.acceleration = None
        return super().run()
