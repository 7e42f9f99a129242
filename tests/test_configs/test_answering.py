# Copyright (c) mvp_mm authors. All rights reserved.
"""One setting of decoding reaches every model that a config builds."""
from __future__ import annotations

import pytest
from mmengine.config import Config

from mvp_mm.registry import MODELS
from mvp_mm.structures import Answering
from tests.helpers import ROOT, build_model, make_batch, make_samples, save_tokenizer


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
    return save_tokenizer(tmp_path_factory.mktemp('tokenizer'))


@pytest.mark.parametrize('task', ['PanopticTask', 'ReferringSegmentationTask'])
def test_the_model_hands_its_options_to_every_task(tokenizer, task):
    model = build_model(tokenizer, answering=dict(same_iou=0.5, nms_iou=0.6)).eval()
    seen = []
    samples = make_samples(task, tokenizer, training=False)
    for sample in samples:
        sample.task_object = type('Task', (), dict(
            decode=lambda self, raw, sample: seen.append(raw.answering)))()
    model.test_step(make_batch([samples]))
    assert seen and all(
        (found.same_iou, found.nms_iou) == (0.5, 0.6) for found in seen)


def test_a_misspelt_option_is_named(tokenizer):
    with pytest.raises(ValueError, match="model.answering has no option 'nms'"):
        build_model(tokenizer, answering=dict(nms=0.5))


def test_the_released_variant_decodes_without_options():
    config = Config.fromfile(ROOT / 'configs/mvplm/released/tiny.py')
    assert Answering.from_config(config.model.answering) == Answering()
    assert MODELS.build(config.model).answering == Answering()
