# Copyright (c) mvp_mm authors. All rights reserved.
import torch
from mmengine.structures import InstanceData

from mvp_mm.models.losses import MaskGeometry, Targets
from mvp_mm.models.losses.targets import masks_at_points, masks_on_grid
from mvp_mm.structures import PerceptionDataSample
from tests.test_models.parts import make_batch, make_state


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
    assert targets.count.tolist() == [2, 0, 1, 1]
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
    assert targets.count.tolist() == [0] and targets.masks.shape == (0, 32, 64)
    assert (targets.mask_index == -1).all() and not targets.is_stuff.any()


def test_mask_logits_are_products_with_the_row_s_image():
    state = make_state()
    geometry = MaskGeometry(state.mask_features, torch.tensor([1, 0, 1]))
    rows = torch.tensor([2, 2, 0, 1])
    embed = torch.randn(4, state.mask_features.shape[1])
    found = geometry.logits(embed, rows)
    for i, row in enumerate(rows):
        image = geometry.image_index[row]
        expected = torch.einsum('c,chw->hw', embed[i], state.mask_features[image])
        torch.testing.assert_close(found[i], expected, atol=1e-5, rtol=1e-5)


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
    points = torch.cat([torch.rand(2, 40, 2), torch.tensor([[[0.0, 1.0]]]).expand(2, -1, -1)], 1)
    index = torch.tensor([2, 0])
    found = masks_at_points(masks, index, points)
    for m in range(2):
        for p in range(41):
            x, y = points[m, p].tolist()
            pixel = masks[index[m], min(int(y * 5), 4), min(int(x * 7), 6)]
            assert found[m, p] == pixel
    shared = masks_at_points(masks, index, points[0])
    torch.testing.assert_close(shared[0], found[0])
