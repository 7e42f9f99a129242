# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import pytest
import torch

from mvp_mm.registry import TASKS
from mvp_mm.structures import PerceptionDataSample, RawPrediction

META = dict(ori_shape=(20, 30), img_shape=(40, 60), batch_input_shape=(64, 64))
OF_SENTENCE = {'pred_instances', 'pred_candidates', 'pred_sentence_presence'}
EXPECTED = dict(
    PanopticTask={'pred_panoptic_seg', 'pred_sem_seg', 'pred_instances'},
    SemanticTask={'pred_sem_seg'}, InstanceTask={'pred_instances'},
    DetectionTask={'pred_instances'}, PhraseGroundingTask={'pred_instances'},
    ReferringSegmentationTask=OF_SENTENCE, ReferringComprehensionTask=OF_SENTENCE,
    GeneralizedReferringTask=OF_SENTENCE, CaptionTask=set())


@pytest.mark.parametrize('kind', EXPECTED)
def test_decode_writes_its_predictions(kind):
    sentence = 'Referring' in kind
    task = TASKS.build(dict(type=kind, **(dict(num_candidates=3) if sentence else {})))
    asked = dict(text='the cat') if sentence else dict(words=['cat', 'sky'])
    request = task.ask(**({} if kind == 'CaptionTask' else asked))
    sample = PerceptionDataSample(metainfo=META)
    sample.instruction = request.instruction
    torch.manual_seed(0)
    raw = RawPrediction(
        logits=torch.randn(6) if sentence else torch.randn(6, 3), boxes=torch.rand(6, 4),
        mask_logits=torch.randn(6, 16, 16), num_dynamic=6, caption='A cat.')
    task.decode(raw, sample)
    assert {key for key in sample.keys() if key.startswith('pred_')} == {  # noqa: SIM118
        'pred_caption', *EXPECTED[kind]}
    assert sample.pred_caption == 'A cat.'
    if 'pred_instances' in EXPECTED[kind]:
        assert ('masks' in sample.pred_instances) == task.predicts_masks
