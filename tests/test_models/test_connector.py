# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import pytest
import torch

from mvp_mm.models.connectors import MLPConnector


@pytest.mark.parametrize('merge', [1, 2])
def test_each_token_is_the_mlp_of_a_square_of_positions(merge):
    connector = MLPConnector(in_channels=3, out_channels=5, merge=merge)
    feature = torch.randn(2, 3, 4, 6)
    expected = []
    for image in feature:
        for top in range(0, 4, merge):
            for left in range(0, 6, merge):
                square = image[:, top:top + merge, left:left + merge]
                expected.append(connector.mlp(square.reshape(-1)))
    tokens = connector(feature)
    assert tokens.shape == (2, 24 // merge**2, 5)
    torch.testing.assert_close(tokens.flatten(0, 1), torch.stack(expected))


def test_a_map_that_cannot_be_merged_raises():
    with pytest.raises(ValueError, match=r'\(4, 3\) cannot be merged 2 × 2'):
        MLPConnector(3, 5, merge=2)(torch.zeros(1, 3, 4, 3))


def test_gradients_reach_map_and_weights():
    connector = MLPConnector(3, 5)
    feature = torch.randn(1, 3, 4, 4, requires_grad=True)
    connector(feature).square().sum().backward()
    assert feature.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for p in connector.parameters())
