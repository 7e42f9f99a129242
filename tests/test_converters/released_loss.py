# Copyright (c) mvp_mm authors. All rights reserved.
"""The released objective in plain loops, with recorded assignments and points."""
import torch
import torch.nn.functional as F
from torchvision.ops import box_convert

from tests.test_converters.released import NUM_THINGS

WEIGHTS = dict(loss_class_name_class=2.0, loss_SEG_class=2.0, loss_mask=5.0, loss_dice=5.0,
               loss_bbox=5.0, loss_giou=2.0)


def at_points(maps, points):
    """Values (n, P) of maps (n, h, w) at points (1, P, 2)."""
    grid = (2 * points - 1).expand(len(maps), -1, -1)[:, None]
    return F.grid_sample(maps[:, None], grid, align_corners=False)[:, 0, 0]


def giou(a, b):
    """Generalised IoU of pairs of boxes cxcywh, with the released denominators."""
    a, b = box_convert(a, 'cxcywh', 'xyxy'), box_convert(b, 'cxcywh', 'xyxy')
    area = [(x[:, 2:] - x[:, :2]).prod(-1) for x in (a, b)]
    inter = (torch.minimum(a[:, 2:], b[:, 2:])
             - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(-1)
    hull = (torch.maximum(a[:, 2:], b[:, 2:])
            - torch.minimum(a[:, :2], b[:, :2])).clamp(min=0).prod(-1)
    union = area[0] + area[1] - inter
    return inter / (union + 1e-6) - (hull - union) / (hull + 1e-6)


def matched_losses(found, i, masks, given, pairs, count, task, denoising=False):
    """Unweighted losses of set ``i``.

    Args:
        found: Predictions of several sets.
        i: Which of them.
        masks: (R, Q, h, w) mask logits of the set.
        given: Recorded inputs.
        pairs: Of each row, indices of queries and of their targets.
        count: What boxes and masks are divided by.
        task: Its name.
        denoising: Only matched queries have a class then.
    """
    logits, boxes = found.logits[i], found.boxes[i]
    q = torch.cat([torch.as_tensor(x) for x, _ in pairs])
    r = torch.cat([torch.full((len(x), ), row) for row, (x, _) in enumerate(pairs)])
    pick = [torch.as_tensor(x) for _, x in pairs]
    labels, wanted = (torch.cat([given[f'targets.{row}.{name}'][x] for row, x in enumerate(pick)])
                      for name in ('labels', 'boxes'))
    values = {}
    if task == 'referring':
        truth = torch.zeros(boxes.shape[:2])
        truth[r, q] = 1
        share = (truth.numel() - truth.sum()) / truth.sum()
        values['loss_SEG_class'] = 0.1 * F.binary_cross_entropy_with_logits(
            logits[..., 0], truth, pos_weight=share)
    else:
        none = logits.shape[-1] - 1
        classes = torch.full(boxes.shape[:2], none)
        classes[r, q] = labels
        weight = torch.where(classes == none, 0.0 if denoising else 0.1, 1.0)
        cross = F.cross_entropy(logits.flatten(0, 1), classes.flatten(), reduction='none')
        values['loss_class_name_class'] = (cross * weight.flatten()).sum() / weight.sum()
    thing = labels < NUM_THINGS if task == 'panoptic' else torch.ones_like(labels, dtype=torch.bool)
    near, far = boxes[r, q][thing], wanted[thing]
    values['loss_bbox'] = (near - far).abs().sum() / count
    values['loss_giou'] = (1 - giou(near, far)).sum() / count
    if 'targets.0.masks' in given:
        truth = torch.cat([given[f'targets.{row}.masks'][x] for row, x in enumerate(pick)])
        value = at_points(masks[r, q], given['loss_points'])
        truth = at_points(truth.float(), given['loss_points'])
        bce = F.binary_cross_entropy_with_logits(value, truth, reduction='none').mean(1)
        prob = value.sigmoid()
        dice = 1 - (2 * (prob * truth).sum(1) + 1) / (prob.sum(1) + truth.sum(1) + 1)
        values['loss_mask'], values['loss_dice'] = bce.sum() / count, dice.sum() / count
    else:
        values['loss_mask'] = values['loss_dice'] = masks.sum() * 0
    return values
