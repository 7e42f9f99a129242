# Copyright (c) mvp_mm authors. All rights reserved.
"""The connector of the authors' released code."""
from __future__ import annotations

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mvp_mm.registry import MODELS


@MODELS.register_module()
class ConvConnector(BaseModule):
    """Halves the stride-32 map with a residual block, then widens it with a linear layer.

    As released, the block's second convolution runs twice with the same weights. Batch norm
    reads the statistics of one process.

    Args:
        in_channels: Channels of the encoder's last map.
        out_channels: LLM width D.
        planes: Channels of the block.
    """

    def __init__(self, in_channels: int, out_channels: int, planes: int = 2048) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, planes, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential(
            nn.Conv2d(in_channels, planes, 1, stride=2, bias=False), nn.BatchNorm2d(planes))
        self.linear = nn.Linear(planes, out_channels)

    @staticmethod
    def num_tokens(height: int, width: int, planes: int = 2048) -> int:
        """Number V of visual tokens of a map of ``height`` × ``width`` positions."""
        return -(-height // 2) * -(-width // 2)

    def forward(self, feature: Tensor) -> Tensor:
        """Map (B, C5, H, W) to visual tokens (B, V, D), V = ⌈H / 2⌉ · ⌈W / 2⌉, row by row."""
        block = F.relu(self.bn1(self.conv1(feature)))
        block = self.bn2(self.conv2(self.conv2(block)))
        block = F.relu(block + self.shortcut(feature))
        return self.linear(block.flatten(2).transpose(1, 2))
