# Copyright (c) mvp_mm authors. All rights reserved.
"""How much a row weighs beside those that share its batch."""
from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mvp_mm.models.losses import (
    HungarianMatcher,
    ImageShares,
    Matches,
    PerceptionCriterion,
    Predictions,
    SampledMasks,
    Targets,
)
from tests.test_models.parts import make_batch, make_predictions, make_state, make_targets

SENTENCES = [[0], [0], [0, 0]]
# For each mate: its kind, phrases, targets, and whether those have masks.
MATES = dict(
    panoptic=('stuff', 3, [0, 2, 1, 1, 0, 2, 0, 0], True), boxes=('word', 2, [0] * 9, False),
    nothing_to_find=('stuff', 3, [], True), no_target=('sentence', 1, [], True))


def scene(mate=None):
    """Three sentences about image 0, and maybe one more row about image 1; its leaves."""
    torch.manual_seed(3)
    batch = make_batch(['sentence'] * 3, [1] * 3, [0] * 3)
    targets, predictions = make_targets(SENTENCES, batch), make_predictions(batch, dynamic=12)
    features = make_state(2).mask_features
    if mate is not None:
        kind, count, labels, masked = MATES[mate]
        batch = make_batch(['sentence'] * 3 + [kind], [1] * 3 + [count], [0] * 3 + [1],
                           things=[[True]] * 3 + [[True, False, True][:count]])
        targets = joined_targets(targets, make_targets(
            [*SENTENCES, labels], batch, [True] * 3 + [masked]))
        predictions = joined(predictions, make_predictions(batch, dynamic=12))
    leaves = [x.requires_grad_() for x in (
        predictions.logits, predictions.boxes, predictions.mask_embed)]
    features = features[:2 if mate else 1].requires_grad_()
    masks = SampledMasks.on_grid(features, targets.masks, batch.image_index)
    return leaves, (predictions, targets, batch.is_word, masks)


def joined(own, every):
    """All rows' predictions, with those of ``own`` in front."""
    for name in ('logits', 'boxes', 'mask_embed', 'valid'):
        mine, all_ = getattr(own, name), getattr(every, name).clone()
        if name == 'logits':
            all_[:, :3, :, :1] = mine[..., :1]
        else:
            all_[:, :3] = mine
        setattr(every, name, all_)
    return every


def joined_targets(own, every):
    """All rows' targets, with those of ``own`` in front."""
    most = own.boxes.shape[1]
    boxes, masks = every.boxes.clone(), every.masks.clone()
    boxes[:3, :most] = own.boxes
    masks[:len(own.masks)] = own.masks
    return replace(every, boxes=boxes, masks=masks)


def gradients(criterion, mate=None):
    """The gradients of the sentences' logits, boxes and mask embeddings."""
    leaves, (predictions, targets, is_word, masks) = scene(mate)
    matches = HungarianMatcher()(predictions, targets, is_word, masks)
    values = criterion(predictions, targets, matches, is_word, masks)
    sum((v.total / v.count.clamp(min=1e-6)).sum() for v in values.values()).backward()
    logits, boxes, embed = (x.grad[:, :3] for x in leaves)
    return logits[..., 0], boxes, embed


@pytest.mark.parametrize('mate', list(MATES))
def test_the_gradient_of_a_row_depends_on_the_number_of_images_alone(mate):
    criterion = PerceptionCriterion(
        ranking_weight=1.0, normalization='images', sentence_reduction='mean')
    for alone, together in zip(gradients(criterion), gradients(criterion, mate), strict=True):
        assert alone.abs().sum() > 0
        torch.testing.assert_close(together, alone / 2)


def test_over_targets_a_crowded_image_takes_the_weight_of_its_mates():
    criterion = PerceptionCriterion(normalization='targets', sentence_reduction='sum')
    (_, boxes, embed), (_, beside, embed_beside) = (
        gradients(criterion), gradients(criterion, 'panoptic'))
    # 4 targets alone, 12 with those of the panoptic image.
    torch.testing.assert_close(beside, boxes * 4 / 12)
    torch.testing.assert_close(embed_beside, embed * 4 / 12)


def test_the_rows_of_an_image_share_its_weight():
    shares = ImageShares.of(torch.tensor([0, 2, 0, 0]), 4)
    torch.testing.assert_close(shares.weight, torch.tensor([1 / 3, 1.0, 1 / 3, 1 / 3]))
    assert shares.num_images == 4
    torch.testing.assert_close(
        shares.of_rows(torch.tensor([1, 2])).weight, torch.tensor([1.0, 1 / 3]))


def test_images_average_rows_and_rows_their_targets_and_queries():
    batch = make_batch(['word', 'word', 'sentence'], [3, 3, 1], [0, 0, 1])
    targets = make_targets([[0, 1], [2], [0]], batch)
    predictions = make_predictions(batch, sets=2, dynamic=5)
    masks = SampledMasks.on_grid(make_state().mask_features, targets.masks, batch.image_index)
    matches = HungarianMatcher()(predictions, targets, batch.is_word, masks)
    found = PerceptionCriterion(normalization='images', sentence_reduction='mean')(
        predictions, targets, matches, batch.is_word, masks)
    # Each row alone, over its own targets and weights.
    alone = []
    for r in range(3):
        here = matches.where(matches.rows == r)
        here = Matches(here.sets, here.rows * 0, here.queries, here.targets)
        row = Predictions(*(getattr(predictions, name)[:, r:r + 1] for name in (
            'logits', 'boxes', 'mask_embed', 'valid')), 5)
        one = Targets(*(getattr(targets, name)[r:r + 1] for name in (
            'labels', 'boxes', 'valid', 'is_stuff', 'mask_index')), targets.masks)
        values = PerceptionCriterion(normalization='targets')(
            row, one, here, batch.is_word[r:r + 1], masks.of_rows(torch.tensor([r])))
        alone.append({k: v.total / v.count.clamp(min=1e-6) for k, v in values.items()})
    for name, value in found.items():
        assert value.count == 2
        expected = (alone[0][name] + alone[1][name]) / 2 + alone[2][name]
        torch.testing.assert_close(value.total, expected)


def test_the_mean_over_queries_is_that_of_torch():
    batch = make_batch(['sentence'], [1])
    targets = make_targets([[0]], batch)
    predictions = make_predictions(batch, sets=1, dynamic=6)
    masks = SampledMasks.on_grid(make_state(1).mask_features, targets.masks, batch.image_index)
    matches = HungarianMatcher()(predictions, targets, batch.is_word, masks)
    criterion = PerceptionCriterion(
        word_weight=7.0, sentence_weight=3.0, sentence_reduction='mean')
    found = criterion(predictions, targets, matches, batch.is_word, masks)['loss_sent']
    wanted = torch.zeros(6)
    wanted[matches.queries] = 1.0
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        predictions.logits[0, 0, :, 0], wanted)
    torch.testing.assert_close(found.total[0] / found.count, 3 * expected)
    assert criterion.weights['loss_word'] == 7.0


@pytest.mark.parametrize('setting', [
    dict(normalization='rows'), dict(sentence_reduction='none')])
def test_other_settings_are_refused(setting):
    with pytest.raises(ValueError, match='must be one of'):
        PerceptionCriterion(**setting)
