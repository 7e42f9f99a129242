# Copyright (c) mvp_mm authors. All rights reserved.
"""Hooks that report on the model and guard the training."""
import math

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mvp_mm.registry import HOOKS


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model inside a data-parallel wrapper, or the model itself."""
    return model.module if is_model_wrapper(model) else model


def count_parameters(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Count the parameters of each top-level part of a model.

    Args:
        model (nn.Module): The model.

    Returns:
        dict[str, tuple[int, int]]: Number of all and of trainable parameters by the part's name.
        A parameter shared by two parts counts for the first.
    """
    counts: dict[str, tuple[int, int]] = {}
    for name, parameter in model.named_parameters():
        part = name.split('.')[0]
        total, trainable = counts.get(part, (0, 0))
        size = parameter.numel()
        counts[part] = (total + size, trainable + size * parameter.requires_grad)
    return counts


def _total(loss: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    """Sum a loss, which may be a list of tensors, without its graph."""
    terms = loss if isinstance(loss, (list, tuple)) else [loss]
    return torch.stack([term.detach().float().sum() for term in terms]).sum()


@HOOKS.register_module()
class TrainableReportHook(Hook):
    """Log what trains and what is frozen, part by part, before training starts."""

    def before_train(self, runner: Runner) -> None:
        counts = count_parameters(unwrap(runner.model))
        counts['all'] = tuple(map(sum, zip(*counts.values(), strict=True)))
        width = max(map(len, counts))
        rows = [
            f'{part:<{width}}  {total:>14,}  {trainable:>14,}'
            for part, (total, trainable) in counts.items()
        ]
        header = f'{"part":<{width}}  {"parameters":>14}  {"trainable":>14}'
        runner.logger.info('\n'.join(['Parameters of the model:', header, *rows]))


@HOOKS.register_module()
class StartCheckHook(Hook):
    """Compare the model's parts with each other before the first image is read."""

    def before_run(self, runner: Runner) -> None:
        model = unwrap(runner.model)
        if hasattr(model, 'check_tokenizer'):
            model.check_tokenizer()


@HOOKS.register_module()
class CheckFiniteLossHook(Hook):
    """Stop the training at a loss that is not finite, before it reaches the weights.

    The losses are checked where the model returns them, so neither the backward pass nor the
    optimizer sees a broken one. The check costs one synchronisation with the device.

    Args:
        interval (int): Check every so many iterations. Defaults to 1.
    """

    def __init__(self, interval: int = 1) -> None:
        self.interval = interval
        self._runner: Runner | None = None
        self._handle: torch.utils.hooks.RemovableHandle | None = None

    def before_train(self, runner: Runner) -> None:
        self._runner = runner
        self._handle = unwrap(runner.model).register_forward_hook(self._check, with_kwargs=True)

    def after_train(self, runner: Runner) -> None:
        self._handle.remove()

    def _check(self, model: nn.Module, args: tuple, kwargs: dict, output: object) -> None:
        """Check the losses of one training forward pass."""
        if not model.training or not isinstance(output, dict):
            return
        if self._runner.iter % self.interval:
            return
        names = list(output)
        totals = torch.stack([_total(output[name]) for name in names]).tolist()
        broken = [f'{name} = {total}' for name, total in zip(names, totals, strict=True)
                  if not math.isfinite(total)]
        if broken:
            images = [sample.metainfo.get('img_path', sample.metainfo.get('img_id'))
                      for sample in kwargs.get('data_samples') or []
                      if hasattr(sample, 'metainfo')]
            raise FloatingPointError(
                f'Loss not finite at iteration {self._runner.iter + 1}: {", ".join(broken)}. '
                f'Images of this batch: {images}')
