# Copyright (c) mvp_mm authors. All rights reserved.
"""Results are kept by image, whatever the number of instructions."""
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
    for answer in (LEFT, RIGHT, LEFT):
        sample = sentence([LEFT], [answer])
        metric.process(dict(data_samples=[[sample]]), [sample.to_dict()])
    assert metric.evaluate(size=2)['referring/REC'] == 50.
