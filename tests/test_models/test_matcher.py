# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from mmdet.structures.bbox import bbox_overlaps
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_convert, generalized_box_iou

from mvp_mm.models.losses import HungarianMatcher, PerceptionCriterion, SampledMasks
from mvp_mm.models.losses.matcher import pairwise_iou, pairwise_mask_costs
from mvp_mm.models.losses.sampling import features_at_points, masks_at_points
from tests.test_models.parts import (
    WIDTH,
    make_batch,
    make_predictions,
    make_state,
    make_targets,
    random_boxes,
)

INDEX = [1, 0, 1, 0]
GRID = (16, 16)


def on_grid(targets, batch):
    """The masks of a random state, on their whole grid."""
    return SampledMasks.on_grid(make_state().mask_features, targets.masks, batch.image_index)
LABELS = [[0, 2, 1, 1], [1, 0, 1], [0], []]


@pytest.fixture
def scene():
    """Panoptic, box-only words, a sentence and a row without targets, over two images."""
    batch = make_batch(['stuff', 'word', 'sentence', 'word'], [3, 2, 1, 3], INDEX,
                       things=[[True, False, True]])
    targets = make_targets(LABELS, batch, masked=[True, False, True, True])
    predictions = make_predictions(batch, sets=2, dynamic=4, stuff=3)
    return predictions, targets, batch.is_word, on_grid(targets, batch)


def plain_cost(scene, s, r, q, g):
    """The cost of one pair, term by term."""
    predictions, targets, is_word, masks = scene
    label = targets.labels[r, g]
    logits = predictions.logits[s, r, q]
    prob = logits.softmax(-1)[label] if is_word[r] else logits[label].sigmoid()
    box, wanted = predictions.boxes[s, r, q], targets.boxes[r, g]
    corners = [box_convert(x[None], 'cxcywh', 'xyxy') for x in (box, wanted)]
    cost = (-2 * prob + 5 * (box - wanted).abs().sum()
            - 2 * generalized_box_iou(*corners)[0, 0])
    if targets.mask_index[r, g] >= 0:
        features = masks.features[masks.image_index[r]]
        predicted = (features @ predictions.mask_embed[s, r, q]).view(GRID)
        mask = targets.masks[targets.mask_index[r, g]].float()
        h, w = predicted.shape
        cell = mask.view(h, mask.shape[0] // h, w, mask.shape[1] // w).mean((1, 3))
        bce = torch.nn.functional.binary_cross_entropy_with_logits(predicted, cell)
        prob = predicted.sigmoid()
        dice = 1 - (2 * (prob * cell).sum() + 1) / (prob.sum() + cell.sum() + 1)
        cost = cost + 5 * bce + 5 * dice
    return float(cost)


def plain_match(scene):
    """(set, row, query, target) by one assignment for each side of each row."""
    predictions, targets, _, _ = scene
    found = set()
    for s, r in np.ndindex(*predictions.logits.shape[:2]):
        for stuff in (False, True):
            queries = [q for q in range(predictions.logits.shape[2])
                       if predictions.valid[s, r, q] and (q >= predictions.num_dynamic) == stuff]
            wanted = [g for g in range(targets.labels.shape[1])
                      if targets.valid[r, g] and bool(targets.is_stuff[r, g]) == stuff]
            if not queries or not wanted:
                continue
            table = [[plain_cost(scene, s, r, q, g) for g in wanted] for q in queries]
            for i, j in zip(*linear_sum_assignment(np.array(table)), strict=True):
                found.add((s, r, queries[i], wanted[j]))
    return found


def as_set(matches):
    columns = (matches.sets, matches.rows, matches.queries, matches.targets)
    return set(zip(*(c.tolist() for c in columns), strict=True))


def test_matches_are_those_of_one_assignment_a_row(scene):
    matches = HungarianMatcher()(*scene)
    assert as_set(matches) == plain_match(scene)
    # 2 things and 2 stuff; 3 boxes; 1 sentence: all of them, in both sets.
    assert len(matches) == 2 * (4 + 3 + 1)


def test_costs_are_the_sum_of_their_terms(scene):
    cost = HungarianMatcher().cost(*scene)
    for s, r in np.ndindex(2, 4):
        for q, g in np.ndindex(7, len(LABELS[r])):
            assert cost[s, r, q, g].item() == pytest.approx(
                plain_cost(scene, s, r, q, g), abs=1e-3)


def test_things_go_to_dynamic_and_stuff_to_stuff_queries(scene):
    predictions, targets, _, _ = scene
    matches = HungarianMatcher()(*scene)
    stuff = targets.is_stuff[matches.rows, matches.targets]
    assert stuff.any() and not stuff.all()
    assert torch.equal(matches.queries >= predictions.num_dynamic, stuff)
    assert predictions.valid[matches.sets, matches.rows, matches.queries].all()


def test_box_only_rows_have_no_mask_cost(scene):
    predictions, targets, is_word, masks = scene
    matcher = HungarianMatcher()
    without = HungarianMatcher(bce_weight=0.0, dice_weight=0.0)
    costs = [m.cost(predictions, targets, is_word, masks) for m in (matcher, without)]
    torch.testing.assert_close(costs[0][:, 1], costs[1][:, 1])
    assert (costs[0][:, 0] - costs[1][:, 0]).abs().min() > 1e-3


def test_no_masks_at_all(scene):
    predictions, targets, is_word, masks = scene
    bare = replace(targets, mask_index=torch.full_like(targets.mask_index, -1),
                   masks=targets.masks[:0])
    scene = (predictions, bare, is_word, masks)
    assert as_set(HungarianMatcher()(*scene)) == plain_match(scene)


def test_rows_without_targets_match_nothing():
    batch = make_batch(['word', 'sentence'], [2, 1], [0, 1])
    targets = make_targets([[], []], batch)
    masks = on_grid(targets, batch)
    assert len(HungarianMatcher()(make_predictions(batch), targets, batch.is_word, masks)) == 0


def test_more_targets_than_queries_use_every_query():
    batch = make_batch(['stuff', 'word'], [3, 2], [0, 1], things=[[True, False, True]])
    targets = make_targets([[0, 0, 2, 2, 0, 1, 1, 1], [0, 1, 0, 1]], batch)
    masks = on_grid(targets, batch)
    scene = (make_predictions(batch, dynamic=3, stuff=2), targets, batch.is_word, masks)
    matches = HungarianMatcher()(*scene)
    assert as_set(matches) == plain_match(scene)
    # Both sides of the first row are full, and the dynamic queries of the second.
    assert len(matches) == 2 * (5 + 3)


@pytest.mark.parametrize('reference', ['torchvision', 'mmdet'])
def test_pairwise_generalised_iou(reference):
    a, b = random_boxes(3, 5), random_boxes(3, 4)
    a[0, 0] = b[0, 0]
    found = pairwise_iou(a, b)[1]
    for row in range(3):
        corners = [box_convert(x[row], 'cxcywh', 'xyxy') for x in (a, b)]
        expected = (generalized_box_iou(*corners) if reference == 'torchvision'
                    else bbox_overlaps(*corners, mode='giou'))
        torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=1e-4)


def test_giou_of_empty_boxes_is_finite():
    empty = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
    assert pairwise_iou(empty, empty)[1].isfinite().all()


def test_pairwise_mask_costs_survive_large_logits():
    logits, targets = torch.randn(4, 9) * 100, (torch.rand(3, 9) > 0.5).float()
    bce, dice = pairwise_mask_costs(logits, targets)
    for q, g in np.ndindex(4, 3):
        expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[q], targets[g])
        torch.testing.assert_close(bce[q, g], expected)
        prob = logits[q].sigmoid()
        torch.testing.assert_close(
            dice[q, g], 1 - (2 * prob @ targets[g] + 1) / (prob.sum() + targets[g].sum() + 1))


def test_uniform_points_approach_the_grid(scene):
    predictions, targets, is_word, masks = scene
    blocks = torch.rand(len(targets.masks), 4, 4) > 0.5
    truth = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)
    smooth = torch.nn.functional.interpolate(
        torch.randn(2, WIDTH, 2, 2), scale_factor=64, mode='bilinear')
    exact = SampledMasks.on_grid(smooth, truth, masks.image_index)
    points = torch.rand(9000, 2)
    sampled = SampledMasks(features_at_points(smooth, points), masks_at_points(truth, points),
                           masks.image_index, num_candidates=8500)
    matcher = HungarianMatcher(num_points=8000)
    found, expected = (matcher.cost(predictions, targets, is_word, m) for m in (sampled, exact))
    torch.testing.assert_close(found, expected, atol=0.5, rtol=0.05)


def test_more_points_than_were_sampled_are_refused(scene):
    predictions, targets, is_word, masks = scene
    sampled = replace(masks, num_candidates=100)
    with pytest.raises(ValueError, match='200 points are asked for, 100'):
        HungarianMatcher(num_points=200)(predictions, targets, is_word, sampled)


def test_costs_are_exact_under_autocast(scene):
    expected = HungarianMatcher().cost(*scene)
    with torch.autocast('cpu', torch.bfloat16):
        found = HungarianMatcher().cost(*scene)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_outputs_that_are_not_finite_are_left_to_the_losses(scene):
    predictions, targets, is_word, masks = scene
    predictions.boxes[0, 0, 1] = float('nan')
    found = HungarianMatcher()(predictions, targets, is_word, masks)
    values = PerceptionCriterion()(predictions, targets, found, is_word, masks)
    assert values['loss_box_l1'].total.isnan().any()
