# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.ops import point_sample

from mvp_mm.models.losses.sampling import (
    SampledMasks,
    features_at_points,
    masks_at_points,
    masks_on_grid,
    uncertain,
)


def test_features_at_points_are_those_of_mmcv():
    features = torch.randn(2, 5, 6, 9, dtype=torch.float64, requires_grad=True)
    edges = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 0.5], [1.0, 0.02], [0.5, 0.999]])
    points = torch.cat([torch.rand(40, 2), edges]).double()
    found = features_at_points(features, points)
    expected = point_sample(features, points.expand(2, -1, -1)).transpose(1, 2)
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(found)
    gradients = [torch.autograd.grad((x * weight).sum(), features)[0] for x in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_logits_are_the_sampled_products_with_the_row_s_image():
    features = torch.randn(3, 4, 6, 6)
    points = torch.rand(20, 2)
    masks = SampledMasks(
        features_at_points(features, points), torch.zeros(0, 20), torch.tensor([2, 0, 2]), 15)
    order, counts = masks.by_image(np.array([2, 0, 1, 2]))
    assert order.tolist() == [2, 0, 1, 3] and counts == [1, 0, 3]
    rows = torch.tensor([1, 0, 2, 2])
    embed = torch.randn(4, 4)
    found = masks.logits(embed, counts)
    for i, row in enumerate(rows):
        whole = torch.einsum('c,chw->hw', embed[i], features[masks.image_index[row]])
        expected = point_sample(whole[None, None], points[None])[0, 0]
        torch.testing.assert_close(found[i], expected, atol=1e-5, rtol=1e-5)


def test_other_rows_share_the_points():
    masks = SampledMasks(torch.randn(2, 5, 3), torch.rand(1, 5), torch.tensor([0, 1, 1]), 4)
    other = masks.of_rows(torch.tensor([2, 0]), [2, 0])
    assert other.image_index.tolist() == other.index_on_host == [1, 0]
    assert other.features is masks.features


def test_uncertain_values_are_the_smallest():
    logits = torch.randn(3, 50)
    found = uncertain(logits, 7)
    for row, chosen in zip(logits, found, strict=True):
        assert set(chosen.tolist()) == set(row.abs().argsort()[:7].tolist())


def test_masks_on_a_grid_are_the_covered_shares():
    masks = torch.rand(2, 8, 12) > 0.5
    found = masks_on_grid(masks, (4, 3))
    for n in range(2):
        for y in range(4):
            for x in range(3):
                cell = masks[n, 2 * y:2 * y + 2, 4 * x:4 * x + 4].float()
                torch.testing.assert_close(found[n, y, x], cell.mean())


def test_masks_at_points_read_the_nearest_pixel():
    masks = torch.rand(3, 5, 7) > 0.5
    points = torch.cat([torch.rand(40, 2), torch.tensor([[0.0, 1.0]])])
    found = masks_at_points(masks, points)
    for m in range(3):
        for p, (x, y) in enumerate(points.tolist()):
            assert found[m, p] == masks[m, min(int(y * 5), 4), min(int(x * 7), 6)]


def test_the_whole_grid_needs_no_points():
    features = torch.randn(2, 3, 4, 4)
    truth = torch.rand(5, 16, 16) > 0.5
    masks = SampledMasks.on_grid(features, truth, torch.tensor([1]))
    torch.testing.assert_close(masks.features[1].T.view(3, 4, 4), features[1])
    torch.testing.assert_close(
        masks.truth.view(5, 4, 4), F.avg_pool2d(truth[:, None].float(), 4)[:, 0])
    assert masks.uniform(3)[0].shape == (2, 16, 3)
