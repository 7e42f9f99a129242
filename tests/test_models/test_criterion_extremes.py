# Copyright (c) mvp_mm authors. All rights reserved.
"""Losses of perfect, empty and identical predictions, of many sets, and of sampled points."""
from __future__ import annotations

import torch
import torch.nn.functional as F

from mvp_mm.models.losses import (
    HungarianMatcher,
    Matches,
    SampledMasks,
)
from mvp_mm.models.losses.criterion import ranking_loss
from tests.test_models.criterion_runs import losses, on_grid, over_targets
from tests.test_models.parts import make_batch, make_predictions, make_state, make_targets


def zero_target_scene():
    batch = make_batch(['stuff', 'sentence'], [3, 1], [0, 1])
    predictions = make_predictions(batch, dynamic=4, stuff=3)
    leaves = [x.requires_grad_(True) for x in (predictions.boxes, predictions.mask_embed)]
    features = make_state().mask_features.requires_grad_(True)
    targets = make_targets([[], []], batch)
    masks = SampledMasks.on_grid(features, targets.masks, batch.image_index)
    nothing = Matches(*torch.zeros(4, 0, dtype=torch.long))
    return [*leaves, features], (predictions, targets, nothing, batch.is_word, masks)


def test_without_targets_losses_are_finite_and_those_of_boxes_and_masks_zero():
    _, scene = zero_target_scene()
    found = losses(over_targets(ranking_weight=1.0), *scene)
    assert all(v.isfinite().all() for v in found.values())
    for name in ('loss_box_l1', 'loss_box_giou', 'loss_mask_bce', 'loss_mask_dice', 'loss_rank'):
        assert (found[name] == 0).all()
    assert (found['loss_word'] > 0).all() and (found['loss_sent'] > 0).all()


def test_without_targets_boxes_and_masks_still_get_zero_gradients():
    leaves, scene = zero_target_scene()
    sum(v.sum() for v in losses(over_targets(), *scene).values()).backward()
    for leaf in leaves:
        assert leaf.grad is not None and (leaf.grad == 0).all()


def test_one_match_of_a_perfect_prediction_costs_nothing():
    batch = make_batch(['word'], [2], [0])
    targets = make_targets([[1]], batch)
    targets.masks = torch.zeros(1, 32, 32, dtype=torch.bool)
    targets.masks[:, 4:16, 8:24] = True
    predictions = make_predictions(batch, sets=1, dynamic=2, width=1)
    predictions.logits = torch.tensor([[[[-50.0, 50.0, -50.0], [-50.0, -50.0, 50.0]]]])
    predictions.boxes[0, 0, 0] = targets.boxes[0, 0]
    predictions.mask_embed[:] = 1.0
    features = F.max_pool2d(targets.masks[None].float(), 2) * 100 - 50
    matches = Matches(*torch.zeros(4, 1, dtype=torch.long))
    found = losses(over_targets(ranking_weight=1.0), predictions, targets, matches,
                   batch.is_word, SampledMasks.on_grid(features, targets.masks, torch.tensor([0])))
    for name, value in found.items():
        assert value.abs().item() < 1e-4, name


def test_sampled_points_approach_the_grid():
    torch.manual_seed(0)
    batch = make_batch(['word'], [2], [0])
    targets = make_targets([[0, 1]], batch, canvas=64)
    blocks = torch.rand(2, 8, 8) > 0.5
    targets.masks = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)
    predictions = make_predictions(batch, sets=1, dynamic=2)
    features = F.interpolate(
        torch.randn(1, 32, 4, 4), size=(64, 64), mode='bilinear', align_corners=False)
    matches = Matches(*(torch.tensor(x) for x in ([0, 0], [0, 0], [0, 1], [0, 1])))
    args = (predictions, targets, matches, batch.is_word)

    def sampled_by(criterion):
        masks = criterion.sample(features, targets, torch.tensor([0]))
        return losses(criterion, *args, masks)

    exact = sampled_by(over_targets(num_points=64 * 64))
    sampled = sampled_by(over_targets(num_points=3000, importance_ratio=0.0))
    for name in ('loss_mask_bce', 'loss_mask_dice'):
        torch.testing.assert_close(sampled[name], exact[name], rtol=0.05, atol=0.05)


def test_importance_sampling_looks_where_masks_are_uncertain():
    batch = make_batch(['word'], [1], [0])
    targets = make_targets([[0]], batch)
    criterion = over_targets(num_points=200)
    features = torch.full((1, 1, 32, 32), 20.0)
    features[..., :4] = 0.0
    masks = criterion.sample(features, targets, batch.image_index)
    logits = masks.logits(torch.ones(1, 1), [1])
    values, truth = criterion._compared(logits, masks.truth, masks.num_candidates)
    assert values.shape == truth.shape == (1, 200)
    assert (values < 10).float().mean().item() > 0.3  # an eighth of the area


def test_ranking_ignores_rows_without_a_positive_query():
    logits = torch.randn(1, 2, 4, requires_grad=True)
    positive = torch.zeros(1, 2, 4, dtype=torch.bool)
    positive[0, 0, 1] = True
    loss = ranking_loss(logits, positive, torch.ones(1, 2, 4))
    torch.testing.assert_close(loss[0, 0], -logits[0, 0].log_softmax(0)[1])
    loss.sum().backward()
    assert (logits.grad[0, 1] == 0).all() and logits.grad.isfinite().all()


def test_more_than_two_sets_are_summed_apart():
    batch = make_batch(['word'], [2], [0])
    targets = make_targets([[0, 1]], batch)
    predictions = make_predictions(batch, sets=4, dynamic=3)
    masks = on_grid(targets, batch)
    matches = HungarianMatcher()(predictions, targets, batch.is_word, masks)
    together = losses(over_targets(), predictions, targets, matches, batch.is_word, masks)
    for s in range(4):
        here = matches.where(matches.sets == s)
        here.sets = torch.zeros_like(here.sets)
        alone = losses(over_targets(), predictions.rows(slice(None), slice(s, s + 1)),
                       targets, here, batch.is_word, masks)
        for name, value in alone.items():
            torch.testing.assert_close(together[name][s], value[0])


def test_identical_boxes_have_finite_gradients():
    batch = make_batch(['word'], [1], [0])
    targets = make_targets([[0]], batch, masked=[False])
    predictions = make_predictions(batch, sets=1, dynamic=1)
    predictions.boxes = targets.boxes[None].clone().requires_grad_(True)
    masks = on_grid(targets, batch)
    matches = Matches(*torch.zeros(4, 1, dtype=torch.long))
    found = losses(over_targets(), predictions, targets, matches, batch.is_word, masks)
    (found['loss_box_l1'] + found['loss_box_giou']).sum().backward()
    assert predictions.boxes.grad.isfinite().all()
