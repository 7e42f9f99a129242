# Copyright (c) mvp_mm authors. All rights reserved.
"""Folds batch norms into the convolutions before them."""
from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Rounding of a deep net; anything larger is another function.
_TOLERANCE = 1e-3


@torch.no_grad()
def fold_batch_norms(module: nn.Module, example: Tensor) -> int:
    """Fold the batch norms of a module into its convolutions, in place.

    Results differ by rounding. A norm is folded where it reads what a convolution has just
    computed, which a forward pass shows.

    Args:
        module: In eval mode; it must not train afterwards.
        example: What it reads, of any size that it takes.

    Returns:
        The number of norms that were folded.

    Raises:
        ValueError: If the module computes something else afterwards, because a convolution's
            output has other readers.
    """
    pairs, before = _convolutions_and_norms(module, example)
    names = {part: name for name, part in module.named_modules()}
    for convolution, norm in pairs:
        _replace(module, names[convolution], fuse_conv_bn_eval(convolution, norm))
        _replace(module, names[norm], _activation(norm))
    if pairs:
        _compare(before, _outputs(module(example)))
    return len(pairs)


def _convolutions_and_norms(module: nn.Module, example: Tensor) -> tuple[
        list[tuple[nn.Conv2d, nn.BatchNorm2d]], list[Tensor]]:
    """Pairs of which the second reads the first's output, and the module's outputs."""
    made: dict[int, tuple[nn.Conv2d, Tensor, int]] = {}
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []
    calls: Counter[nn.Module] = Counter()

    def after_convolution(part: nn.Conv2d, _: Any, output: Tensor) -> None:
        calls[part] += 1
        # The output is held: another tensor must not get its id.
        made[id(output)] = part, output, output._version

    def before_norm(part: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        calls[part] += 1
        convolution, _, version = made.get(id(inputs[0]), (None, None, None))
        # An activation may have changed the output in place.
        if convolution is not None and inputs[0]._version == version:
            pairs.append((convolution, part))

    with ExitStack() as hooks:
        for part in module.modules():
            if isinstance(part, nn.Conv2d):
                hook = part.register_forward_hook(after_convolution)
            elif isinstance(part, nn.BatchNorm2d) and part.running_var is not None:
                hook = part.register_forward_pre_hook(before_norm)
            else:
                continue
            hooks.callback(hook.remove)
        outputs = _outputs(module(example))
    return [(a, b) for a, b in pairs if calls[a] == calls[b] == 1], outputs


def _activation(norm: nn.BatchNorm2d) -> nn.Module:
    """What a batch norm does behind the norm: timm's have dropout and an activation."""
    return nn.Sequential(*(getattr(norm, name) for name in ('drop', 'act') if hasattr(norm, name)))


def _replace(module: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, child = name.rpartition('.')
    setattr(module.get_submodule(parent), child, part)


def _outputs(found: Any) -> list[Tensor]:
    return [found] if isinstance(found, Tensor) else list(found)


def _compare(before: list[Tensor], after: list[Tensor]) -> None:
    for old, new in zip(before, after, strict=True):
        if not (old - new).abs().max() <= _TOLERANCE * old.abs().max():
            raise ValueError('The batch norms of this encoder cannot be folded: '
                             'acceleration=dict(fold=False) leaves them as they are')
