# Copyright (c) mvp_mm authors. All rights reserved.
"""Matching and losses against those recorded from the authors' code."""
from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from mvp_mm.models.losses import Matches, Predictions, SampledMasks, Targets
from mvp_mm.models.losses.sampling import features_at_points, uncertain
from mvp_mm.models.released import ReleasedCriterion, ReleasedMatcher
from tests.test_converters.golden import load, needs_golden

pytestmark = needs_golden

NUM_DYNAMIC = 12
NUM_THING_CLASSES = 80
CASES = ['panoptic', 'panoptic_stuffonly', 'detection_with_masks', 'detection_boxonly',
         'detection_smallbox', 'referring']
WEIGHTS = dict(l1_weight=5.0, giou_weight=2.0, bce_weight=5.0, dice_weight=5.0)
NAMES = dict(loss_word='loss_class_name_class', loss_sent='loss_SEG_class',
             loss_box_l1='loss_bbox', loss_box_giou='loss_giou', loss_mask_bce='loss_mask',
             loss_mask_dice='loss_dice')


@dataclass
class Case:
    """One recording as our matcher and criterion take it."""

    predictions: Predictions
    leaves: dict[str, Tensor]
    targets: Targets
    is_word: Tensor
    expected: dict[str, Tensor]
    gradients: dict[str, Tensor]
    points: dict[str, Tensor]

    def masks(self, name: str) -> SampledMasks:
        """The recorded masks, whose embeddings are unit vectors, at recorded points."""
        points = self.points[name][0]
        truth = ReleasedCriterion.truth_at(self.targets.masks, points)
        return SampledMasks(features_at_points(self.leaves['pred_masks'], points), truth,
                            torch.arange(len(self.is_word)))


def read(name: str) -> Case:
    recorded = load(f'E_criterion_{name}')
    given = recorded['in']
    leaves = {k: v.clone().requires_grad_() for k, v in given.items() if k.startswith('pred_')}
    is_word = 'pred_class_name_logits' in leaves
    logits = leaves['pred_class_name_logits' if is_word else 'pred_SEG_logits']
    if not is_word:
        logits = torch.cat([logits, torch.full_like(logits, torch.finfo().min)], -1)
    images, queries = logits.shape[:2]
    labels = [given[f'targets.{i}.labels'] for i in range(images)]
    most = max(map(len, labels))
    truth = dict(labels=torch.zeros(images, most, dtype=torch.long),
                 boxes=torch.full((images, most, 4), 0.5),
                 valid=torch.zeros(images, most, dtype=torch.bool),
                 mask_index=torch.full((images, most), -1))
    masks, count = [torch.zeros(0, 128, 160, dtype=torch.bool)], 0
    for i, found in enumerate(labels):
        truth['labels'][i, :len(found)] = found if is_word else 0
        truth['boxes'][i, :len(found)] = given[f'targets.{i}.boxes']
        truth['valid'][i, :len(found)] = True
        if f'targets.{i}.masks' in given:
            masks.append(given[f'targets.{i}.masks'])
            truth['mask_index'][i, :len(found)] = torch.arange(count, count + len(found))
            count += len(found)
    panoptic = name.startswith('panoptic')
    is_stuff = truth['valid'] & (truth['labels'] >= NUM_THING_CLASSES) & panoptic
    predictions = Predictions(
        logits[None], leaves['pred_boxes'][None], torch.eye(queries).expand(1, images, -1, -1),
        torch.ones(1, images, queries, dtype=torch.bool), NUM_DYNAMIC)
    targets = Targets(**truth, is_stuff=is_stuff, masks=torch.cat(masks))
    points = {k: given[f'{k}_points'] for k in ('matcher', 'loss')}
    return Case(predictions, leaves, targets, torch.full((images, ), is_word),
                recorded['out'], recorded['grad'], points)


def recorded_matches(case: Case) -> Matches:
    columns = [[], [], [], []]
    for i in range(len(case.is_word)):
        queries, wanted = (case.expected[f'assign.{i}.{k}'].tolist() for k in ('query', 'gt'))
        for column, values in zip(
                columns, ([0] * len(queries), [i] * len(queries), queries, wanted), strict=True):
            column += values
    return Matches(*map(torch.tensor, columns))


@pytest.mark.parametrize('name', CASES)
def test_costs_of_allowed_pairs_are_the_recorded_ones(name):
    case = read(name)
    matcher = ReleasedMatcher()
    with torch.no_grad():
        cost = matcher.cost(
            case.predictions, case.targets, case.is_word, case.masks('matcher'))
    allowed = matcher.eligible(case.predictions, case.targets)
    for i, count in enumerate(case.targets.valid.sum(1).tolist()):
        expected, keep = case.expected[f'cost.{i}'], allowed[0, i, :, :count]
        assert torch.equal(keep, expected < 1e4)
        torch.testing.assert_close(
            cost[0, i, :, :count][keep], expected[keep], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('name', CASES)
def test_assignments_are_the_recorded_ones(name):
    case = read(name)
    found = ReleasedMatcher()(
        case.predictions, case.targets, case.is_word, case.masks('matcher'))
    as_set = [set(zip(m.rows.tolist(), m.queries.tolist(), m.targets.tolist(), strict=True))
              for m in (found, recorded_matches(case))]
    assert as_set[0] == as_set[1]


@pytest.mark.parametrize('name', CASES)
def test_losses_and_their_gradients_are_the_recorded_ones(name):
    case = read(name)
    criterion = ReleasedCriterion(**WEIGHTS)
    means = criterion(case.predictions, case.targets, recorded_matches(case), case.is_word,
                      case.masks('loss'))
    total, seen = 0.0, 0
    for key, mean in means.items():
        value = (mean.total / mean.count.clamp(min=1e-6)).sum()
        total = total + value
        if f'loss.{NAMES.get(key)}' in case.expected:
            weight, seen = criterion.weights[key], seen + 1
            torch.testing.assert_close(
                value / weight, case.expected[f'loss.{NAMES[key]}'], atol=1e-5, rtol=1e-5)
        else:
            assert value == 0
    assert seen == sum(k.startswith('loss.') for k in case.expected) == 5
    torch.testing.assert_close(
        total, case.expected['loss_total_weighted'], atol=1e-5, rtol=1e-5)
    total.backward()
    for key, leaf in case.leaves.items():
        torch.testing.assert_close(leaf.grad, case.gradients[key], atol=1e-5, rtol=1e-5)


def test_the_least_certain_points_are_the_recorded_ones():
    recorded = load('E_point_sampling')
    logits, drawn = recorded['in']['logits'], recorded['in']['rand0']
    for i in range(len(logits)):
        values = features_at_points(logits[i:i + 1], drawn[i])[..., 0]
        chosen = drawn[i][uncertain(values, 48)[0]]
        expected = recorded['out']['point_coords'][i, :48]
        assert set(map(tuple, chosen.tolist())) == set(map(tuple, expected.tolist()))
        at = features_at_points(logits[i:i + 1], recorded['out']['point_coords'][i])[0, :, 0]
        torch.testing.assert_close(
            at, recorded['out']['point_logits'][i, 0], atol=1e-5, rtol=1e-5)
