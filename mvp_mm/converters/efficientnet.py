# Copyright (c) mvp_mm authors. All rights reserved.
"""Rename the weights of EfficientNet-Lite from the names of efficientnet_pytorch to timm's."""
from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mvp_mm.converters.conversion import Conversion, Rule, convert

# Blocks per stage of EfficientNet-Lite0; timm numbers them per stage, the other code in one row.
LITE0_STAGES = (1, 2, 2, 3, 3, 4, 1)
_STEM = '_conv_stem.weight'
# The first stage has no expansion, so its convolutions and norms count from one step later.
_SEPARABLE = dict(_depthwise_conv='conv_dw', _bn1='bn1', _project_conv='conv_pw', _bn2='bn2')
_INVERTED = dict(_expand_conv='conv_pw', _bn0='bn1', _depthwise_conv='conv_dw', _bn1='bn2',
                 _project_conv='conv_pwl', _bn2='bn3')
_OUTER = dict(_conv_stem='conv_stem', _bn0='bn1', _conv_head='conv_head', _bn1='bn2',
              _fc='classifier')


def efficientnet_rules(stages: tuple[int, ...] = LITE0_STAGES) -> list[Rule]:
    """Make the rules of a network with so many blocks per stage."""
    rules = [Rule(rf'{old}\.(\w+)', rf'{new}.\1') for old, new in _OUTER.items()]
    number = 0
    for stage, count in enumerate(stages):
        names = _INVERTED if stage else _SEPARABLE
        for block in range(count):
            rules += [Rule(rf'_blocks\.{number}\.{old}\.(\w+)', rf'blocks.{stage}.{block}.{new}.\1')
                      for old, new in names.items()]
            number += 1
    return rules


def convert_efficientnet(state: Mapping[str, Tensor]) -> Conversion:
    """Convert an EfficientNet-Lite0.

    Raises:
        ValueError: If the layout is another, or a tensor has a name that no rule knows.
    """
    if _STEM not in state:
        raise ValueError(f'unknown layout: no {_STEM}; the file begins with {list(state)[:3]}')
    done = convert(state, efficientnet_rules())
    if done.left:
        raise ValueError(f'no EfficientNet-Lite0: {len(done.left)} tensors have other names, '
                         f'the first is {done.left[0]}')
    return done
