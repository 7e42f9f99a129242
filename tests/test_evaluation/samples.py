# Copyright (c) mvp_mm authors. All rights reserved.
"""Made-up samples for the metrics."""
from __future__ import annotations

import itertools

import numpy as np
import torch
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from mvp_mm.structures import Instruction, PerceptionDataSample, Segment, SegmentKind

CLASSES = ('cat', 'dog', 'grass', 'sky')
THINGS = (True, True, False, False)
_NUMBERS = itertools.count()


def make_instruction(phrases=CLASSES, is_thing=THINGS, kind='word'):
    return Instruction(
        task='any', kind=kind, prompt=[Segment(SegmentKind.PHRASE, p) for p in phrases],
        response=[], phrases=list(phrases), is_thing=np.array(is_thing, dtype=bool))


def make_sample(size, gt_eval, kind='word', phrases=CLASSES, is_thing=THINGS, **meta):
    if kind == 'sentence':
        phrases, is_thing = ('the one on the left',), (True,)
    meta = dict(dict(img_id=7, image_index=0, sent_id=next(_NUMBERS)), **meta)
    sample = PerceptionDataSample(metainfo=dict(dict(ori_shape=size), **meta))
    sample.instruction = make_instruction(phrases, is_thing, kind)
    sample.gt_eval = gt_eval
    return sample


def make_instances(boxes, scores=None, labels=None, masks=None):
    boxes = torch.as_tensor(np.asarray(boxes), dtype=torch.float32).reshape(-1, 4)
    count = len(boxes)
    instances = InstanceData(
        bboxes=boxes,
        scores=torch.as_tensor(np.ones(count) if scores is None else scores).float(),
        labels=torch.as_tensor(np.zeros(count) if labels is None else labels).long())
    if masks is not None:
        instances.masks = torch.as_tensor(np.asarray(masks), dtype=torch.bool)
    return instances


def encode(masks):
    return [coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks]


def box_masks(boxes, size):
    masks = np.zeros((len(boxes), *size), dtype=bool)
    for mask, (x1, y1, x2, y2) in zip(masks, np.asarray(boxes, dtype=int).reshape(-1, 4),
                                      strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


def score(metric, samples):
    metric.process(None, [sample.to_dict() for sample in samples])
    return metric.evaluate(len(samples))
