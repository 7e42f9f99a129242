# Copyright (c) mvp_mm authors. All rights reserved.
"""Hooks that report on the model before training starts."""
from __future__ import annotations

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
        model: The model.

    Returns:
        Numbers of all and of trainable parameters by the part's name. A parameter shared by two
        parts counts for the first.
    """
    counts: dict[str, tuple[int, int]] = {}
    for name, parameter in model.named_parameters():
        part = name.split('.')[0]
        total, trainable = counts.get(part, (0, 0))
        size = parameter.numel()
        counts[part] = (total + size, trainable + size * parameter.requires_grad)
    return counts


@HOOKS.register_module()
class TrainableReportHook(Hook):
    """Logs what trains and what is frozen, per part of the model, before training starts."""

    def before_train(self, runner: Runner) -> None:
        """Log the table."""
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
    """Checks that tokenizer and LLM fit each other before the first image is read."""

    def before_run(self, runner: Runner) -> None:
        """Compare them."""
        model = unwrap(runner.model)
        if hasattr(model, 'check_tokenizer'):
            model.check_tokenizer()
