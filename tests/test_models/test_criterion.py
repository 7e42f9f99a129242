# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import box_convert, box_iou, generalized_box_iou

from mvp_mm.models.losses import (
    HungarianMatcher,
    Matches,
    PerceptionCriterion,
)
from tests.test_models.criterion_runs import losses, on_grid, over_targets
from tests.test_models.parts import make_batch, make_predictions, make_targets

INDEX = [1, 0, 1, 0, 0]
LABELS = [[0, 2, 1, 1], [1, 0, 1], [0], [], [0, 0]]
SETS = 2


@pytest.fixture
def scene():
    """Panoptic (2 things, 2 stuff), box-only words, sentences with one, no and two targets."""
    batch = make_batch(['stuff', 'word', 'sentence', 'sentence', 'sentence'], [3, 2, 1, 1, 1],
                       INDEX, things=[[True, False, True]])
    targets = make_targets(LABELS, batch, masked=[True, False, True, True, True])
    predictions = make_predictions(batch, sets=SETS, dynamic=4, stuff=3)
    masks = on_grid(targets, batch)
    matches = HungarianMatcher()(predictions, targets, batch.is_word, masks)
    return predictions, targets, matches, batch.is_word, masks


def taken(matches, s, r):
    """{query: target} of one set and row."""
    here = (matches.sets == s) & (matches.rows == r)
    return dict(zip(matches.queries[here].tolist(), matches.targets[here].tolist(), strict=True))


def test_word_loss_is_a_weighted_cross_entropy(scene):
    predictions, targets, matches, is_word, _ = scene
    found = losses(over_targets(no_object_weight=0.1), *scene)['loss_word']
    for s in range(SETS):
        total = weights = 0.0
        for r in is_word.nonzero()[:, 0].tolist():
            pairs = taken(matches, s, r)
            for q in range(predictions.logits.shape[2]):
                if not predictions.valid[s, r, q]:
                    continue
                column = targets.labels[r, pairs[q]] if q in pairs else -1
                weight = 1.0 if q in pairs else 0.1
                total -= weight * predictions.logits[s, r, q].log_softmax(-1)[column]
                weights += weight
        torch.testing.assert_close(found[s], 2 * total / weights)


def test_sentence_loss_is_a_binary_cross_entropy_that_counts_every_sentence_the_same(scene):
    predictions, _, matches, is_word, _ = scene
    found = losses(over_targets(), *scene)['loss_sent']
    for s in range(SETS):
        total = 0.0
        for r in (~is_word).nonzero()[:, 0].tolist():
            pairs = taken(matches, s, r)
            for q in range(4):
                prob = predictions.logits[s, r, q, 0].sigmoid()
                total -= torch.log(prob if q in pairs else 1 - prob) / max(len(pairs), 1)
        torch.testing.assert_close(found[s], 2 * total / 3)


def test_ranking_loss_gives_the_probability_to_the_targets(scene):
    predictions, _, matches, is_word, _ = scene
    found = losses(over_targets(ranking_weight=3.0), *scene)['loss_rank']
    for s in range(SETS):
        total = 0.0
        for r in (2, 4):
            prob = predictions.logits[s, r, :4, 0].softmax(0)
            total -= torch.log(sum(prob[q] for q in taken(matches, s, r)))
        torch.testing.assert_close(found[s], 3 * total / 3)


def test_sentence_queries_on_a_target_can_all_be_positive(scene):
    predictions, targets, matches, is_word, _ = scene
    predictions.boxes[0, 4, 0] = targets.boxes[4, 1]
    predictions.boxes[0, 4, 1] = targets.boxes[4, 1] * 0.95
    predictions.boxes[1, 2, 3] = targets.boxes[2, 0]
    found = losses(over_targets(ranking_weight=1.0, positive_iou=0.5), *scene)
    for s in range(SETS):
        binary = rank = 0.0
        added = 0
        for r in (~is_word).nonzero()[:, 0].tolist():
            matched = taken(matches, s, r)
            positive = set(matched)
            for q in range(4):
                for g in range(len(LABELS[r])):
                    corners = [box_convert(x[None], 'cxcywh', 'xyxy')
                               for x in (predictions.boxes[s, r, q], targets.boxes[r, g])]
                    if box_iou(*corners) >= 0.5:
                        positive.add(q)
            added += len(positive) - len(matched)
            for q in range(4):
                prob = predictions.logits[s, r, q, 0].sigmoid()
                loss = -torch.log(prob if q in positive else 1 - prob)
                binary += loss / max(len(positive), 1)
            if positive:
                prob = predictions.logits[s, r, :4, 0].softmax(0)
                rank -= torch.log(sum(prob[q] for q in positive))
        assert added or s
        torch.testing.assert_close(found['loss_sent'][s], 2 * binary / 3)
        torch.testing.assert_close(found['loss_rank'][s], rank / 3)


def test_without_options_the_terms_and_weights_are_the_papers():
    criterion = PerceptionCriterion()
    assert criterion.weights == dict(
        loss_word=2.0, loss_sent=2.0, loss_rank=0.0, loss_box_l1=5.0, loss_box_giou=2.0,
        loss_mask_bce=5.0, loss_mask_dice=5.0)
    assert criterion.positive_iou is None
    assert (criterion.sentence_reduction, criterion.normalization) == ('mean', 'images')


@pytest.mark.parametrize('value', [0.0, 1.1])
def test_an_overlap_that_is_none_is_refused(value):
    with pytest.raises(ValueError, match='positive_iou must be None or in'):
        PerceptionCriterion(positive_iou=value)


def test_ranking_can_be_left_out(scene):
    assert (losses(over_targets(), *scene)['loss_rank'] == 0).all()


def test_box_losses_are_sums_over_matches_a_target(scene):
    predictions, targets, matches, _, _ = scene
    found = losses(over_targets(), *scene)
    for s in range(SETS):
        l1 = giou = 0.0
        for r in range(5):
            for q, g in taken(matches, s, r).items():
                a, b = predictions.boxes[s, r, q], targets.boxes[r, g]
                l1 += (a - b).abs().sum()
                corners = [box_convert(x[None], 'cxcywh', 'xyxy') for x in (a, b)]
                giou += 1 - generalized_box_iou(*corners)[0, 0]
        torch.testing.assert_close(found['loss_box_l1'][s], 5 * l1 / 10)
        torch.testing.assert_close(found['loss_box_giou'][s], 2 * giou / 10)


def test_mask_losses_are_sums_over_matches_with_masks(scene):
    predictions, targets, matches, _, masks = scene
    found = losses(over_targets(), *scene)
    for s in range(SETS):
        bce = dice = 0.0
        for r in (0, 2, 4):
            for q, g in taken(matches, s, r).items():
                logits = masks.features[INDEX[r]] @ predictions.mask_embed[s, r, q]
                logits = logits.view(16, 16)
                mask = targets.masks[targets.mask_index[r, g]].float().view(16, 2, 16, 2)
                mask = mask.mean((1, 3))
                bce += F.binary_cross_entropy_with_logits(logits, mask)
                prob = logits.sigmoid()
                dice += 1 - (2 * (prob * mask).sum() + 1) / (prob.sum() + mask.sum() + 1)
        torch.testing.assert_close(found['loss_mask_bce'][s], 5 * bce / 7)
        torch.testing.assert_close(found['loss_mask_dice'][s], 5 * dice / 7)


def test_every_loss_has_one_value_a_set_and_its_weight(scene):
    single = losses(over_targets(*[1.0] * 7), *scene)
    weighted = losses(over_targets(2.0, 17.0, 3.0, 5.0, 7.0, 11.0, 13.0), *scene)
    factors = dict(zip(PerceptionCriterion.names, (2, 17, 3, 5, 7, 11, 13), strict=True))
    assert set(single) == set(weighted) == set(factors)
    for name, factor in factors.items():
        assert single[name].shape == (SETS, )
        torch.testing.assert_close(weighted[name], single[name] * factor)


def test_several_copies_of_a_target_are_averaged(scene):
    predictions, targets, matches, is_word, masks = scene
    doubled = Matches(*(torch.cat([x, x]) for x in (
        matches.sets, matches.rows, matches.queries, matches.targets)))
    once = losses(over_targets(), *scene)
    found = losses(over_targets(), predictions, targets, doubled, is_word, masks, True)
    for name in ('loss_box_l1', 'loss_box_giou', 'loss_mask_bce', 'loss_mask_dice'):
        torch.testing.assert_close(found[name], once[name])


def test_box_only_targets_have_no_mask_loss(scene):
    predictions, targets, matches, is_word, masks = scene
    bare = replace(targets, mask_index=torch.full_like(targets.mask_index, -1),
                   masks=targets.masks[:0])
    found = losses(over_targets(), predictions, bare, matches, is_word, masks)
    assert (found['loss_mask_bce'] == 0).all() and (found['loss_mask_dice'] == 0).all()
    torch.testing.assert_close(
        found['loss_box_l1'], losses(over_targets(), *scene)['loss_box_l1'])


def test_queries_that_take_no_part_change_nothing(scene):
    predictions, targets, matches, is_word, masks = scene
    predictions.logits.requires_grad_(True)
    values = losses(over_targets(ranking_weight=1.0), predictions, targets, matches,
                    is_word, masks)
    sum(v.sum() for v in values.values()).backward()
    gradient = predictions.logits.grad.abs().sum(-1)
    assert (gradient[~predictions.valid] == 0).all()
    assert (gradient[predictions.valid] > 0).all()


def test_masked_phrases_get_no_gradient(scene):
    predictions, targets, matches, is_word, masks = scene
    predictions.logits.requires_grad_(True)
    values = losses(over_targets(ranking_weight=1.0), predictions, targets, matches,
                    is_word, masks)
    sum(v.sum() for v in values.values()).backward()
    masked = predictions.logits == torch.finfo(torch.float32).min
    assert masked.any() and (predictions.logits.grad[masked] == 0).all()
