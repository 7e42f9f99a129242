# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from dataclasses import replace

import torch
from mmengine.structures import InstanceData

from mvp_mm.models.losses import Targets
from mvp_mm.structures import PerceptionDataSample
from tests.test_models.parts import make_batch


def make_sample(boxes, labels, masks=None):
    sample = PerceptionDataSample()
    truth = InstanceData(
        bboxes=torch.tensor(boxes).view(-1, 4).float(), labels=torch.tensor(labels).long())
    if masks is not None:
        truth.masks = masks
    sample.gt_instances = truth
    return sample


def test_collate_pads_and_normalises():
    masks = torch.rand(3, 32, 64) > 0.5
    samples = [make_sample([[0, 0, 32, 16], [16, 8, 64, 32]], [1, 0], masks[:2]),
               make_sample([], []),
               make_sample([[8, 8, 24, 24]], [0]),
               make_sample([[32, 0, 64, 32]], [2], masks[2:])]
    batch = make_batch(['stuff', 'word', 'sentence', 'word'], [2, 3, 1, 3],
                       things=[[True, False], [True] * 3, [True], [True, True, False]])
    targets = Targets.collate(samples, batch, (32, 64))
    assert targets.valid.sum(1).tolist() == [2, 0, 1, 1]
    assert targets.labels[targets.valid].tolist() == [1, 0, 0, 2]
    expected = torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.625, 0.625, 0.75, 0.75],
                             [0.25, 0.5, 0.25, 0.5], [0.75, 0.5, 0.5, 1.0]])
    torch.testing.assert_close(targets.boxes[targets.valid], expected)
    assert targets.mask_index.tolist() == [[0, 1], [-1, -1], [-1, -1], [2, -1]]
    assert torch.equal(targets.masks, masks)
    # Stuff is apart only in rows with stuff queries.
    assert targets.is_stuff.tolist() == [[True, False]] + [[False, False]] * 3


def test_collate_without_masks_or_targets():
    batch = make_batch(['word'], [2])
    targets = Targets.collate([make_sample([], [])], batch, (32, 64))
    assert not targets.valid.any() and targets.masks.shape == (0, 32, 64)
    assert (targets.mask_index == -1).all() and not targets.is_stuff.any()


def test_the_host_knows_what_the_device_would_say():
    masks = torch.rand(2, 32, 64) > 0.5
    samples = [make_sample([[0, 0, 32, 16], [16, 8, 64, 32]], [1, 0], masks),
               make_sample([], [], masks[:0]), make_sample([[8, 8, 24, 24]], [0])]
    batch = make_batch(['stuff', 'stuff', 'sentence'], [2, 2, 1],
                       things=[[True, False], [True, False], [True]])
    targets = Targets.collate(samples, batch, (32, 64))
    known, asked = targets.on_host, replace(targets, host=None).on_host
    assert known.things.tolist() == [[False, True], [False, False], [True, False]]
    for name in ('count', 'things', 'masked'):
        assert getattr(known, name).tolist() == getattr(asked, name).tolist()
