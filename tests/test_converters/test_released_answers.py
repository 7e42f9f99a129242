# Copyright (c) mvp_mm authors. All rights reserved.
"""Post-processing of the released variant against the recordings."""
from __future__ import annotations

import numpy as np
import pytest
import torch

import mvp_mm.models  # noqa: F401  registers the released tasks
from mvp_mm.registry import TASKS
from mvp_mm.structures import Instruction, PerceptionDataSample, RawPrediction, Segment, SegmentKind
from tests.test_converters.golden import load, needs_golden

pytestmark = needs_golden


@pytest.fixture(scope='module')
def recorded():
    return load('I_postprocess')


def ask(kind, is_thing, **args):
    """A sample with the recording's frames and an instruction of so many phrases."""
    sample = PerceptionDataSample(metainfo=dict(
        ori_shape=(211, 237), img_shape=(128, 144), batch_input_shape=(128, 160)))
    count = len(is_thing)
    sample.instruction = Instruction(
        'test', kind, [Segment(SegmentKind.PHRASE, 'x')] * count, [], phrases=['x'] * count,
        is_thing=np.asarray(is_thing, dtype=bool), **args)
    return sample


def answer(recorded, kind, task, is_thing, **args):
    """Decode the recorded outputs with a task."""
    given = recorded['in']
    queries = 20 if kind == 'word' else 12
    logits = given['class_name_logits'] if kind == 'word' else given['SEG_logits'][:, 0]
    raw = RawPrediction(
        logits, given['pred_boxes'][:queries], given['pred_masks_quarter'][:queries], 12)
    sample = ask(kind, is_thing, **args)
    TASKS.build(task).decode(raw, sample)
    return sample


@pytest.fixture(scope='module')
def panoptic(recorded):
    return answer(recorded, 'word', dict(type='ReleasedPanopticTask', max_instances=12),
                  recorded['in']['is_thing'], use_stuff_queries=True)


def test_panoptic_map_and_segments_are_the_recorded_ones(recorded, panoptic):
    found, expected = panoptic.pred_panoptic_seg, recorded['out']
    assert torch.equal(found['panoptic'], expected['panoptic_seg'])
    for ours, theirs in (('id', 'id'), ('label', 'category_id'), ('isthing', 'isthing')):
        assert [s[ours] for s in found['segments_info']] == expected[f'segments.{theirs}'].tolist()


def test_semantic_map_is_the_recorded_one(recorded, panoptic):
    assert torch.equal(panoptic.pred_sem_seg, recorded['out']['semseg_argmax'].long())


def check_instances(found, recorded, name):
    """Compare, best first; empty masks score nothing, and their order has no meaning."""
    expected = {key.removeprefix(f'{name}.'): value for key, value in recorded['out'].items()
                if key.startswith(f'{name}.')}
    order = expected['scores'].argsort(descending=True, stable=True)
    order = order[expected['scores'][order] > 0]
    found = found[found.scores > 0]
    torch.testing.assert_close(found.scores, expected['scores'][order], rtol=0, atol=1e-5)
    assert torch.equal(found.masks, expected['pred_masks'][order])
    if 'pred_boxes' in expected:
        # Pixels of a 237 wide image.
        torch.testing.assert_close(found.bboxes, expected['pred_boxes'][order], rtol=1e-6,
                                   atol=1e-5)
    if 'pred_classes' in expected:
        assert torch.equal(found.labels, expected['pred_classes'][order])


def test_instances_of_a_panoptic_answer_are_the_recorded_ones(recorded, panoptic):
    check_instances(panoptic.pred_instances, recorded, 'instance_panoptic_on')


def test_the_core_instance_task_answers_as_recorded(recorded):
    sample = answer(recorded, 'word', dict(type='InstanceTask', max_instances=12), [True] * 133)
    check_instances(sample.pred_instances, recorded, 'instance')


def test_referring_answers_with_the_recorded_mask_of_all_candidates(recorded):
    sample = answer(recorded, 'sentence', dict(type='ReleasedReferringTask', num_candidates=12),
                    [True])
    check_instances(sample.pred_candidates, recorded, 'referring')
    assert torch.equal(sample.pred_instances.masks[0], recorded['out']['referring.selected_mask'])


@pytest.mark.parametrize('case', ['thr0.6', 'two_masks', 'no_pred_fallback'])
def test_generalized_referring_unites_or_falls_back_as_recorded(recorded, case):
    task = dict(type='ReleasedGeneralizedReferringTask',
                score_thr=float(recorded['in'][f'gref.{case}.thr']))
    sample = answer(recorded, 'sentence', task, [True])
    assert torch.equal(sample.pred_instances.masks.any(0), recorded['out'][f'gref.{case}.mask'])
