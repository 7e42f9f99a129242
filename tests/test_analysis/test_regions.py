# Copyright (c) mvp_mm authors. All rights reserved.
"""Regions of answers and of the truth, as the analysis tools compare them."""
from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch

from mvp_mm.structures import PerceptionDataSample
from tests.helpers import ROOT, make_samples, save_tokenizer


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
    """A tokenizer's folder; the tools are importable meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / 'tools/analysis_tools'))
        yield save_tokenizer(tmp_path_factory.mktemp('tokenizer'))


def truth_as_prediction(tokenizer):
    """A sample whose answer is the truth, and its truth."""
    segment_map = np.zeros((4, 6), dtype=np.int32)
    segment_map[:2], segment_map[3:] = 1, 2
    segments = [dict(id=1, label=0, isthing=True), dict(id=2, label=1, isthing=False)]
    sample = PerceptionDataSample(metainfo=dict(ori_shape=(4, 6)))
    sample.instruction = make_samples('PanopticTask', tokenizer, training=False)[0].instruction
    sample.gt_eval = dict(panoptic=segment_map, segments_info=segments)
    sample.pred_panoptic_seg = dict(panoptic=torch.from_numpy(segment_map), segments_info=segments)
    return sample


def test_the_quality_of_an_answer(tokenizer):
    quality = importlib.import_module('failure_sheets').quality
    sample = truth_as_prediction(tokenizer)
    assert quality(sample, 0.3) == ('PQ', 100.0)
    # Void on one segment, half of whose truth is left: one match of 1, one miss.
    sample.pred_panoptic_seg = dict(
        panoptic=np.where(sample.gt_eval['panoptic'] == 1, 1, 0),
        segments_info=sample.gt_eval['segments_info'][:1])
    assert quality(sample, 0.3) == ('PQ', 50.0)


@pytest.mark.parametrize('kind', ['panoptic', 'semantic'])
def test_an_answer_to_void_pixels_does_not_count(tokenizer, kind):
    tool = importlib.import_module('mvp_mm.analysis.evaluated_model')
    sample = truth_as_prediction(tokenizer)
    void = sample.gt_eval['panoptic'] == 0
    assert void.any()
    filled = np.where(void, 1, sample.gt_eval['panoptic'])
    if kind == 'panoptic':
        sample.pred_panoptic_seg['panoptic'] = torch.from_numpy(filled)
    else:
        truth = sample
        sample = PerceptionDataSample(metainfo=truth.metainfo)
        sample.gt_eval, sample.pred_sem_seg = truth.gt_eval, torch.from_numpy(filled - 1)
    assert tool.overlap(tool.truth_regions(sample), tool.answer_regions(sample, 0.)) == 1


def test_overlap_counts_a_region_that_one_side_lacks(tokenizer):
    tool = importlib.import_module('mvp_mm.analysis.evaluated_model')
    left, right = np.array([[1, 1, 0, 0]], bool), np.array([[0, 1, 1, 0]], bool)
    assert tool.overlap({0: left}, {0: right}) == pytest.approx(1 / 3)
    assert tool.overlap({0: left}, {0: left, 1: right}) == pytest.approx(1 / 2)
    assert tool.overlap({}, {}) == 1
