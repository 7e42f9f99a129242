# Copyright (c) mvp_mm authors. All rights reserved.
"""Validation and test loops over several named data sets, each with its own metrics."""
from collections.abc import Iterator

import torch
from mmengine.dist import all_gather_object, all_reduce, get_world_size
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.runner import BaseLoop, Runner
from mmengine.runner.amp import autocast
from torch.utils.data import DataLoader, Dataset

from mvp_mm.evaluation.scoring import evaluate_metrics
from mvp_mm.registry import LOOPS


class NamedLoaders:
    """Several data loaders that count as one, so that progress and ETA cover all of them.

    Args:
        loaders (dict[str, DataLoader]): The loaders by the name of their data set.
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
        """Dataset: The data set being read now."""
        return self.loaders[self.current].dataset


class _MultiLoop(BaseLoop):
    """What the validation and the test loop share.

    One item of a data set may carry several instructions, so a step returns a flat list that may
    be longer than the batch; the evaluators are told the number of outputs, not of images.

    Args:
        runner (Runner): The runner.
        dataloader (dict[str, dict]): A dataloader config by the name of the data set.
        evaluator (dict[str, dict | list]): A metric config, or a list of them, by the same names.
        fp16 (bool): Whether to run under fp16 autocast. Defaults to False.
    """

    stage: str

    def __init__(
        self,
        runner: Runner,
        dataloader: dict[str, dict],
        evaluator: dict[str, dict | list],
        fp16: bool = False,
    ) -> None:
        if dataloader.keys() != evaluator.keys():
            raise ValueError(
                f'{self.stage}_dataloader names {sorted(dataloader)} but {self.stage}_evaluator '
                f'names {sorted(evaluator)}; they must be the same')
        if not dataloader:
            raise ValueError(f'{self.stage}_dataloader names no data set')
        loaders = {}
        self.evaluators: dict[str, Evaluator] = {}
        for name, cfg in dataloader.items():
            loaders[name] = runner.build_dataloader(cfg, seed=runner.seed)
            self._check_sampler(name, loaders[name])
            self.evaluators[name] = runner.build_evaluator(evaluator[name])
            self.evaluators[name].dataset_meta = getattr(loaders[name].dataset, 'metainfo', None)
        super().__init__(runner, NamedLoaders(loaders))
        self.fp16 = fp16
        # What went wrong in the last run, by the name of the dataset.
        self.problems: dict[str, str] = {}

    def _check_sampler(self, name: str, loader: DataLoader) -> None:
        """Refuse a sampler that repeats items to even out the ranks: they would be scored twice."""
        if get_world_size() > 1 and getattr(loader.sampler, 'round_up', False):
            raise ValueError(
                f"{self.stage}_dataloader.{name}.sampler repeats items to fill the ranks; set "
                "sampler=dict(type='DefaultSampler', shuffle=False, round_up=False)")

    def run(self) -> dict[str, float]:
        """Run all data sets in turn; one that cannot be measured loses no other's figures.

        Returns:
            dict[str, float]: All metrics, each under ``<data set>/<metric>``. What could not be
                measured is logged as an error and noted in ``problems``.
        """
        self.runner.call_hook(f'before_{self.stage}')
        self.runner.call_hook(f'before_{self.stage}_epoch')
        self.runner.model.eval()
        metrics: dict[str, float] = {}
        self.problems = {}
        step = 0
        for name, loader in self.dataloader:
            evaluator = self.evaluators[name]
            self.runner.visualizer.dataset_meta = evaluator.dataset_meta
            outputs, problem = 0, ''
            try:
                for data_batch in loader:
                    outputs += self.run_iter(step, data_batch, evaluator)
                    step += 1
            except (KeyError, ValueError, OSError) as error:
                problem = str(error)
                MMLogger.get_current_instance().error(f'{name}: {problem}', exc_info=True)
            # Other processes go on with the next data set only together with this one.
            failures = [text for text in all_gather_object(problem) if text]
            # mmengine cuts the gathered results to this size; no sampler pads, so all are kept.
            size = torch.tensor(outputs)
            all_reduce(size)
            if not failures:
                scores, failures = evaluate_metrics(evaluator, int(size))
                metrics.update({f'{name}/{key}': value for key, value in scores.items()})
            if failures:
                self._note_problem(name, '; '.join(failures))
        self.runner.call_hook(f'after_{self.stage}_epoch', metrics=metrics)
        self.runner.call_hook(f'after_{self.stage}')
        return metrics

    def _note_problem(self, name: str, problem: str) -> None:
        """Note a data set that could not be measured, or not by every metric."""
        self.problems[name] = problem
        MMLogger.get_current_instance().error(f'{name}: {problem}')
        for metric in self.evaluators[name].metrics:
            metric.results.clear()

    @torch.no_grad()
    def run_iter(self, step: int, data_batch: dict, evaluator: Evaluator) -> int:
        """Run one batch.

        Args:
            step (int): Number of the batch, counted over all data sets.
            data_batch (dict): The collated batch.
            evaluator (Evaluator): Metrics of the data set at hand.

        Returns:
            int: Number of outputs, one per instruction.
        """
        self.runner.call_hook(
            f'before_{self.stage}_iter', batch_idx=step, data_batch=data_batch)
        with autocast(enabled=self.fp16):
            outputs = getattr(self.runner.model, f'{self.stage}_step')(data_batch)
        evaluator.process(data_samples=outputs, data_batch=data_batch)
        self.runner.call_hook(
            f'after_{self.stage}_iter', batch_idx=step, data_batch=data_batch, outputs=outputs)
        return len(outputs)


@LOOPS.register_module()
class MultiValLoop(_MultiLoop):
    """Validate on several named data sets; see :class:`MultiTestLoop` for the config."""

    stage = 'val'


@LOOPS.register_module()
class MultiTestLoop(_MultiLoop):
    """Test on several named data sets.

    Example:
        >>> test_cfg = dict(type='MultiTestLoop')
        >>> test_dataloader = dict(panoptic=dict(...), refcoco=dict(...))
        >>> test_evaluator = dict(panoptic=[dict(...)], refcoco=[dict(...)])
    """

    stage = 'test'
