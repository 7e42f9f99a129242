# Copyright (c) mvp_mm authors. All rights reserved.
"""A task of one's own is one file and one config; the commands take it as they are."""
from __future__ import annotations

import json
import sys

import pytest
from mmengine.registry import DefaultScope

from tests.benchmark_root import enter
from tests.helpers import ROOT, load_tool

TASK = '''
"""Which words of a list are true of the image?"""
import numpy as np

from mvp_mm.evaluation.base import PerceptionMetric, require
from mvp_mm.registry import METRICS, TASKS
from mvp_mm.tasks import WordTask
from mvp_mm.tasks.decoding import word_probabilities


@TASKS.register_module()
class PresenceTask(WordTask):
    name = 'presence'
    predicts_masks = False
    default_metric = 'PresenceMetric'

    def decode(self, raw, sample):
        best = word_probabilities(raw, sample)[:, :-1].amax(0).tolist()
        sample.pred_presence = dict(zip(sample.instruction.phrases, best))


@METRICS.register_module()
class PresenceMetric(PerceptionMetric):
    default_prefix = 'presence'

    def measure(self, sample):
        likely = require(sample, 'pred_presence')
        present = {sample['instruction'].phrases[k] for k in sample['gt_eval']['labels']}
        return [(score, name in present) for name, score in likely.items()]

    def summarize(self, results):
        scores, truth = np.array([pair for image in results for pair in image]).T
        return dict(accuracy=100. * float(((scores > 0.5) == truth).mean()), words=len(truth))
'''
CONFIG = """
_base_ = '{root}/configs/mvplm/eval/coco_instance.py'
custom_imports = dict(imports=['presence'])
datasets = dict(coco_instance_val=dict(
    tasks=[dict(type='PresenceTask')], metrics=[dict(type='PresenceMetric')]))
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    enter(tmp_path, monkeypatch)
    (tmp_path / 'presence.py').write_text(TASK)
    (tmp_path / 'my_config.py').write_text(CONFIG.format(root=ROOT))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    DefaultScope._instance_dict.clear()


def test_one_file_and_one_config_add_a_task(place, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['test', 'my_config.py', 'model.pth'])
    load_tool('test').main()
    metrics = json.loads((place / 'work_dirs/my_config/metrics.json').read_text())
    assert set(metrics) == {'coco_instance/presence/accuracy', 'coco_instance/presence/words',
                            'coco_instance/response/forced'}
    # One image, and a list of the two classes that the file has.
    assert metrics['coco_instance/presence/words'] == 2
    assert metrics['coco_instance/presence/accuracy'] in (0, 50, 100)
