# Copyright (c) mvp_mm authors. All rights reserved.
"""Gives a connector the maps that it reads: the encoder's last, or those at strides 4 to 32.

A connector whose class says ``multi_scale = True`` reads four maps, finest first, and takes a list
of channels as ``in_channels``. Any other reads the last map alone, as the paper's does.
"""
from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mvp_mm.registry import MODELS

# A fifth map, at stride 2, is for masks alone.
NUM_MAPS = 4


def build_connector(config: dict, channels: Sequence[int], out_channels: int) -> nn.Module:
    """Build a connector.

    Args:
        config: Its config.
        channels: Channels of the encoder's maps, finest first.
        out_channels: LLM width D.
    """
    multi_scale = _reads_all(MODELS.get(config['type']))
    read = list(channels[-NUM_MAPS:]) if multi_scale else channels[-1]
    return MODELS.build(dict(in_channels=read, out_channels=out_channels, **config))


def connect(connector: nn.Module, features: Sequence[Tensor]) -> Tensor:
    """Turn the encoder's maps (B, C_l, H_l, W_l), finest first, into visual tokens (B, V, D)."""
    return connector(features[-NUM_MAPS:] if _reads_all(connector) else features[-1])


def _reads_all(connector: object) -> bool:
    return getattr(connector, 'multi_scale', False)
