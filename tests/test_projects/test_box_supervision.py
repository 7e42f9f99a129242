# Copyright (c) mvp_mm authors. All rights reserved.
"""The plugin of mask losses for data with boxes alone."""
from __future__ import annotations

import importlib

import cv2
import numpy as np
import pytest
import torch

from mvp_mm.analysis.ablations import read_suite
from mvp_mm.engine import check_config, load_config
from mvp_mm.models.losses import HungarianMatcher, PerceptionCriterion
from mvp_mm.registry import MODELS
from tests.helpers import ROOT, build_model, make_batch, make_samples, save_tokenizer
from tests.test_models import parts

PROJECT = ROOT / 'projects/box_supervision'
SUITE = read_suite(PROJECT / 'recipes.yml')


@pytest.fixture(scope='module', autouse=True)
def losses():
    """Reading the config is what loads the plugin."""
    load_config(PROJECT / 'configs/tiny.py')
    return importlib.import_module('projects.box_supervision.box_supervision.losses')


def test_colours_are_those_of_opencv(losses):
    rgb = torch.rand(3, 5, 7)
    expected = cv2.cvtColor(rgb.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2LAB)
    found = losses.lab_colours(rgb).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, expected, atol=0.5)


def test_a_box_is_filled_by_cell_centres_and_never_empty(losses):
    boxes = torch.tensor([[0.5, 0.25, 0.5, 0.5], [0.9, 0.9, 0.01, 0.01]])
    found = losses.box_masks(boxes, (4, 8))
    assert found[0].nonzero().tolist() == [[y, x] for y in (0, 1) for x in (2, 3, 4, 5)]
    assert found[1].nonzero().tolist() == [[3, 7]]


def test_a_mask_that_touches_the_sides_of_its_box_has_no_projection_loss(losses):
    box = torch.zeros(3, 8, 8, dtype=torch.bool)
    box[:, 2:6, 1:5] = True
    logits = torch.full((3, 8, 8), -20.0)
    logits[0, range(2, 6), range(1, 5)] = 20.0    # a diagonal
    logits[1, :, 1:5] = 20.0    # beyond it
    found = losses.projection_loss(logits, box)    # the third mask is empty
    assert found[0] < 1e-4 and 0.3 < found[1] < 0.4 and found[2] > 1.9


@pytest.mark.parametrize('dilation', [1, 2])
def test_affinity_is_the_mean_over_pairs_of_like_colour(losses, dilation):
    torch.manual_seed(0)
    logits, colours = torch.randn(2, 5, 6), torch.randn(2, 3, 5, 6)
    boxes = torch.rand(2, 5, 6) > 0.5
    found = losses.affinity_loss(logits, boxes, colours, 0.3, dilation)
    prob = logits.sigmoid()
    for n in range(2):
        terms = []
        for y in range(5):
            for x in range(6):
                for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
                    v, u = y + dy * dilation, x + dx * dilation
                    if not (v < 5 and 0 <= u < 6 and (boxes[n, y, x] or boxes[n, v, u])):
                        continue
                    if (-0.5 * (colours[n, :, y, x] - colours[n, :, v, u]).norm()).exp() < 0.3:
                        continue
                    a, b = prob[n, y, x], prob[n, v, u]
                    terms.append(-(a * b + (1 - a) * (1 - b)).log())
        torch.testing.assert_close(found[n], torch.stack(terms).mean())


@pytest.fixture
def disc(losses):
    """A red disc on green: mask (h, w), box (1, h, w) and colours (1, 3, h, w)."""
    y, x = torch.meshgrid(torch.arange(20.), torch.arange(20.), indexing='ij')
    mask = (y - 9.5) ** 2 + (x - 9.5) ** 2 <= 42
    red, green = torch.tensor([[.9, .1, .1], [.1, .6, .2]])[..., None, None]
    box = mask.any(0)[None, None, :] & mask.any(1)[None, :, None]
    return mask, box, losses.lab_colours(torch.where(mask, red, green))[None]


def test_the_box_alone_cannot_tell_a_disc_from_its_filled_box_but_colour_can(losses, disc):
    mask, box, colours = disc
    both = torch.stack([mask, box[0]]).float() * 20 - 10
    projection, affinity = losses.box_supervision(
        both, box.expand(2, -1, -1), colours.expand(2, -1, -1, -1), 0.3, 1)
    assert (projection < 1e-3).all() and affinity[0] < 0.01 < 0.1 < affinity[1]


@pytest.mark.parametrize('value', [-10.0, 10.0])
def test_a_mask_of_everything_or_nothing_gets_no_affinity_loss_that_would_keep_it(
        losses, disc, value):
    _, box, colours = disc
    logits = torch.full((1, 20, 20), value, requires_grad=True)
    _, affinity = losses.box_supervision(logits, box, colours, 0.3, 1)
    assert affinity == 0


@pytest.mark.parametrize('seed', range(4))
def test_box_and_colour_lead_to_the_shape(losses, disc, seed):
    mask, box, colours = disc
    v, u = torch.meshgrid(torch.linspace(-1, 1, 20), torch.linspace(-1, 1, 20), indexing='ij')
    features = torch.stack([*(colours[0] / 50), v, u, v * v, u * u, torch.ones_like(u)])
    torch.manual_seed(seed)
    embed = (0.1 * torch.randn(1, len(features))).requires_grad_()
    optimizer = torch.optim.Adam([embed], lr=0.1)
    for _ in range(300):
        logits = torch.einsum('nc,chw->nhw', embed, features)
        optimizer.zero_grad()
        sum(losses.box_supervision(logits, box, colours, 0.3, 1)).sum().backward()
        optimizer.step()
    found = logits[0] > 0
    assert (found & mask).sum() / (found | mask).sum() > 0.95


def inputs_of_a_criterion(masked):
    torch.manual_seed(0)
    batch = parts.make_batch(['word', 'word', 'sentence'], [3, 2, 1], [0, 1, 1])
    targets = parts.make_targets([[0, 2], [1], [0]], batch, masked)
    predictions = parts.make_predictions(batch)
    return batch, targets, predictions, parts.make_state()


def compute(criterion, masked, one_to_many=False):
    batch, targets, predictions, state = inputs_of_a_criterion(masked)
    torch.manual_seed(1)
    masks = criterion.sample(state.mask_features, targets, batch.image_index)
    matches = HungarianMatcher(num_points=64)(predictions, targets, batch.is_word, masks)
    return criterion(predictions, targets, matches, batch.is_word, masks, one_to_many)


def build_criterion(**settings):
    criterion = MODELS.build(dict(type='BoxSupervisedCriterion', num_points=64, **settings))
    criterion.see(torch.rand(2, 3, 32, 32))
    return criterion


def test_other_losses_are_those_of_the_plain_criterion():
    found, plain = (compute(criterion, [True, False, False]) for criterion in (
        build_criterion(), PerceptionCriterion(num_points=64)))
    assert set(found) - set(plain) == {'loss_mask_projection', 'loss_mask_affinity'}
    for name, value in plain.items():
        torch.testing.assert_close(found[name].total, value.total)


def test_only_targets_without_masks_count_and_only_in_the_last_layer():
    with_masks = compute(build_criterion(), [True, True, True])
    assert not with_masks['loss_mask_projection'].total.any()
    boxes = compute(build_criterion(), [True, False, False])['loss_mask_projection'].total
    assert boxes[-1] > 0 and not boxes[:-1].any()
    assert 'loss_mask_projection' not in compute(build_criterion(), [True, False, False], True)


def test_a_criterion_that_saw_no_image_says_what_is_missing():
    criterion = MODELS.build(dict(type='BoxSupervisedCriterion', num_points=64))
    with pytest.raises(RuntimeError, match='use BoxSupervisedMVPLM'):
        compute(criterion, [False, False, False])


def test_a_model_learns_masks_from_boxes_where_the_plain_one_cannot(tmp_path):
    path = save_tokenizer(tmp_path)
    reached = {}
    for kind in ('BoxSupervisedMVPLM', 'MVPLM'):
        criterion = dict(type='BoxSupervisedCriterion') if kind != 'MVPLM' else {}
        model = build_model(path, type=kind, perception=dict(criterion=criterion)).train()
        groups = [make_samples('DetectionTask', path, with_masks=False)]
        data = model.data_preprocessor(make_batch(groups), True)
        model.parse_losses(model(**data, mode='loss'))[0].backward()
        reached[kind] = sum(float(p.grad.abs().sum()) for p in
                            model.perception.mask_head.parameters() if p.grad is not None)
    assert reached['BoxSupervisedMVPLM'] > 0 == reached['MVPLM']


@pytest.mark.parametrize('name', SUITE.recipes)
def test_every_recipe_of_the_verdict_passes_the_check(name, tmp_path):
    recipe = SUITE.recipes[name]
    cfg = load_config(ROOT / recipe.config, {
        **recipe.options, 'model.tokenizer.path': str(tmp_path)})
    cfg.model.encoder.backbone.pop('pretrained_path')    # written by a command
    check_config(cfg, modes=())
