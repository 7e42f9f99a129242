# Copyright (c) mvp_mm authors. All rights reserved.
"""Batches for the whole model, and its raw predictions."""
from __future__ import annotations

import copy

import torch

from tests.helpers import make_batch

WORDS = ('PanopticTask', 'SemanticTask', 'InstanceTask', 'DetectionTask', 'PhraseGroundingTask')
SENTENCES = ('ReferringSegmentationTask', 'ReferringComprehensionTask', 'GeneralizedReferringTask')
TASK_NAMES = (*WORDS, *SENTENCES, 'CaptionTask')
QUERIES, STUFF = 8, 3


class Recorder:
    """Stands in for a task and keeps the raw prediction."""

    def decode(self, raw, sample):
        sample.set_field(raw, 'raw')


def perturb(model):
    """Move every weight, so that nothing hides behind an initial zero."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model


def prepare(model, groups, training=False, images=None):
    batch = make_batch(copy.deepcopy(groups))
    if images is not None:
        batch['inputs'] = [batch['inputs'][i] for i in images]
    return model.data_preprocessor(batch, training)


def total(losses):
    return sum(value for name, value in losses.items() if 'loss' in name)


def raw_predictions(model, groups, images=None):
    """Raw prediction of every sample, in order."""
    data = prepare(model, groups, images=images)
    for sample in data['data_samples']:
        sample.task_object = Recorder()
    return [s.raw for s in model(**data, mode='predict')]


def assert_same(found, expected):
    for name in ('logits', 'boxes', 'mask_logits'):
        torch.testing.assert_close(
            getattr(found, name), getattr(expected, name), atol=1e-4, rtol=1e-4)
    assert (found.num_dynamic, found.caption) == (expected.num_dynamic, expected.caption)
