# Copyright (c) mvp_mm authors. All rights reserved.
"""Batch norms that are folded into convolutions."""
from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mvp_mm.models.acceleration.folding import fold_batch_norms
from mvp_mm.models.encoders import TimmBackbone


def with_random_norms(module: nn.Module) -> nn.Module:
    """The module in eval mode, whose batch norms are no identities."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.1)
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    return module.eval()


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


@pytest.mark.parametrize('name', ['tf_efficientnet_lite0', 'resnet10t'])
def test_a_folded_encoder_gives_the_same_maps(name: str) -> None:
    plain = with_random_norms(TimmBackbone(name))
    folded = copy.deepcopy(plain)
    count = norms(plain)
    assert fold_batch_norms(folded, torch.rand(1, 3, 64, 64)) == count > 0
    assert norms(folded) == 0
    images = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        for wanted, found in zip(plain(images), folded(images), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.max()))


def test_a_norm_behind_an_activation_stays() -> None:
    net = with_random_norms(nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(4)))
    assert fold_batch_norms(net, torch.rand(1, 3, 8, 8)) == 0
    assert norms(net) == 1


class Branched(nn.Module):
    """A convolution with a second reader."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        made = self.convolution(images)
        return self.norm(made) + made


def test_a_convolution_with_a_second_reader_is_refused() -> None:
    with pytest.raises(ValueError, match='fold=False'):
        fold_batch_norms(with_random_norms(Branched()), torch.rand(1, 3, 8, 8))
