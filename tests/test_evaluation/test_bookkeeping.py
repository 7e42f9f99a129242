# Copyright (c) mvp_mm authors. All rights reserved.
"""Results are kept by image, whatever the number of instructions."""
from __future__ import annotations

import pytest

from mvp_mm.evaluation import (
    CocoAPMetric,
    GeneralizedReferringMetric,
    GroundingRecallMetric,
    PanopticQualityMetric,
    ReferringMetric,
    SemanticIoUMetric,
)
from mvp_mm.registry import METRICS

from .test_referring import LEFT, RIGHT, sentence

METRIC_TYPES = (CocoAPMetric, GeneralizedReferringMetric, GroundingRecallMetric,
                PanopticQualityMetric, ReferringMetric, SemanticIoUMetric)


@pytest.mark.parametrize('metric_type', METRIC_TYPES)
def test_registered_and_empty_dataset(metric_type):
    metric = METRICS.build(dict(type=metric_type.__name__))
    with pytest.raises(ValueError, match=f'{metric_type.__name__}: the dataset is empty'):
        metric.evaluate(0)


def test_images_with_many_and_no_instructions():
    metric = ReferringMetric()
    first = [sentence([LEFT], [LEFT], image_index=0), sentence([LEFT], [RIGHT], image_index=0),
             sentence([LEFT], [RIGHT], image_index=0)]
    last = [sentence([LEFT], [LEFT], image_index=2)]
    batch = dict(inputs=[None] * 3, data_samples=[first, [], last])
    metric.process(batch, [sample.to_dict() for sample in first + last])
    assert [len(image) for image in metric.results] == [3, 0, 1]
    assert metric.evaluate(size=3)['referring/REC'] == 50.


def test_padding_of_the_last_batch_falls_away():
    metric = ReferringMetric()
    for number, answer in ((0, LEFT), (1, RIGHT), (0, LEFT)):
        sample = sentence([LEFT], [answer], sent_id=number)
        metric.process(dict(data_samples=[[sample]]), [sample.to_dict()])
    assert metric.evaluate(size=2)['referring/REC'] == 50.


@pytest.mark.parametrize('size', [2, 100])
def test_a_sample_that_comes_twice_is_named(size):
    metric = ReferringMetric()
    samples = [sentence([LEFT], [LEFT], img_id=9, sent_id=4) for _ in range(2)]
    metric.process(None, [sample.to_dict() for sample in samples])
    with pytest.raises(ValueError, match='ReferringMetric: image 9, "the one.*" was measured twi'):
        metric.evaluate(size)


def test_no_image_is_cut_off_whatever_size_is_told():
    metric = ReferringMetric()
    samples = [sentence([LEFT], [answer]) for answer in (LEFT, RIGHT)]
    metric.process(dict(data_samples=[[], [], *([s] for s in samples)]),
                   [dict(s.to_dict(), image_index=2 + k) for k, s in enumerate(samples)])
    assert metric.evaluate(size=2)['referring/REC'] == 50.
