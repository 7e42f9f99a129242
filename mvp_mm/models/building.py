# Copyright (c) mvp_mm authors. All rights reserved.
"""Builds a part of the model from its config."""
from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from mvp_mm.registry import MODELS


def build_part(config: dict, **sizes: Any) -> nn.Module:
    """Build a part, given those of the model's sizes that its constructor takes.

    Args:
        config: Config of the part; what it says itself counts.
        sizes: What the model knows, by name of the argument.
    """
    part = MODELS.get(config['type'])
    takes = inspect.signature(part).parameters if part else {}
    return MODELS.build({**{k: v for k, v in sizes.items() if k in takes}, **config})
