# Copyright (c) mvp_mm authors. All rights reserved.
"""The ground truth of real files, fed as prediction, is perfect; saved, it scores the same."""
from __future__ import annotations

import importlib.util
import json
import sys

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from pycocotools import mask as coco_mask

import mvp_mm.tasks  # noqa: F401
from mvp_mm.evaluation import (
    CocoAPMetric,
    PanopticQualityMetric,
    PredictionWriter,
    ReferringMetric,
    SemanticIoUMetric,
)
from mvp_mm.registry import DATASETS
from tests.helpers import ROOT, save_tokenizer
from tests.test_datasets.small_data import SAMPLE, needs_sample

from .samples import make_instances

pytestmark = needs_sample


@pytest.fixture(scope='module')
def pipeline(tmp_path_factory):
    tokenizer = dict(type='InstructionTokenizer', num_visual_tokens=4, max_length=4096,
                     path=save_tokenizer(tmp_path_factory.mktemp('tokenizer')))
    return [dict(type='BuildInstructions', tokenizer=tokenizer, training=False),
            dict(type='LoadImage'), dict(type='LoadPerceptionAnnotations'),
            dict(type='PackPerceptionInputs', with_eval=True)]


def coco(pipeline, **kwargs):
    return dict(
        type='CocoPanopticDataset', data_root=str(SAMPLE / 'coco'),
        ann_file='annotations/panoptic_val2017.json', test_mode=True, pipeline=pipeline,
        data_prefix=dict(img='val2017', seg='annotations/panoptic_val2017'),
        tasks=[dict(type='PanopticTask')], **kwargs)


def answer_perfectly(sample):
    """Predict the ground truth; what is void there may be anything."""
    gt = sample.gt_eval
    if 'panoptic' in gt:
        segments = [s for s in gt['segments_info'] if not s['iscrowd']]
        ids = np.where(np.isin(gt['panoptic'], [s['id'] for s in segments]), gt['panoptic'], 0)
        sample.pred_panoptic_seg = dict(panoptic=torch.from_numpy(ids), segments_info=[
            dict(id=s['id'], label=s['label'], score=0.5) for s in segments])
        labels = np.array([0] + [s['label'] for s in gt['segments_info']])
        sample.pred_sem_seg = torch.from_numpy(labels[gt['panoptic']])
    found = np.flatnonzero(~gt['crowd'])
    masks = [coco_mask.decode(gt['masks'][k]) for k in found]
    sample.pred_instances = make_instances(
        gt['bboxes'][found], np.linspace(0.9, 0.1, len(found)), gt['labels'][found],
        np.array(masks).reshape(-1, *sample.ori_shape))


def score_dataset(dataset, metrics, answer=answer_perfectly):
    """Score as the test loop does."""
    dataset = DATASETS.build(dataset)
    for metric in metrics:
        metric.dataset_meta = dataset.metainfo
    for k in range(len(dataset)):
        samples = dataset[k]['data_samples']
        for sample in samples:
            sample.set_metainfo(dict(image_index=0))
            answer(sample)
        for metric in metrics:
            metric.process(dict(data_samples=[samples]), [s.to_dict() for s in samples])
    return {key: value for metric in metrics for key, value in metric.evaluate(10**6).items()}


def test_coco_panoptic(pipeline):
    found = score_dataset(coco(pipeline, indices=25), [
        PanopticQualityMetric(), SemanticIoUMetric(), CocoAPMetric()])
    assert {'panoptic/PQ', 'panoptic/PQ_th', 'panoptic/PQ_st', 'semantic/mIoU', 'coco/bbox_AP',
            'coco/segm_AP', 'coco/segm_APs'} <= found.keys()
    assert found == pytest.approx(dict.fromkeys(found, 100.), rel=0, abs=1e-9)


def test_ade_semantic(pipeline):
    loading = [dict(t, type='LoadSemanticMap') if t['type'] == 'LoadPerceptionAnnotations' else t
               for t in pipeline]
    dataset = dict(
        type='SemanticMapDataset', data_root=str(SAMPLE / 'ade20k/ADEChallengeData2016'),
        data_prefix=dict(img='images/validation', seg='annotations/validation'),
        vocabulary='ade20k_150', values=list(range(1, 151)), ignore=[0], test_mode=True,
        tasks=[dict(type='SemanticTask')], pipeline=loading)
    found = score_dataset(dataset, [SemanticIoUMetric()])
    assert set(found.values()) == {100.}


@pytest.mark.parametrize('joined, count', [(False, 11), (True, 4)])
def test_refcoco_by_sentence_and_joined_by_reference(pipeline, joined, count):
    dataset = dict(
        type='RefCocoDataset', data_root=str(SAMPLE / 'refer'), ann_file='refcoco/refs(unc).p',
        instances_file='refcoco/instances.json', split='val', test_mode=True, pipeline=pipeline,
        data_prefix=dict(img='train2014'),
        tasks=[dict(type='ReferringSegmentationTask', join_sentences=joined)])
    asked = []

    def answer(sample):
        asked.append(sample)
        answer_perfectly(sample)

    found = score_dataset(dataset, [ReferringMetric()], answer)
    assert len(asked) == count
    assert set(found.values()) == {100.}
    assert {'referring/cIoU', 'referring/gIoU', 'referring/P@0.9', 'referring/REC'} <= found.keys()


def answer_badly(sample):
    """Predict the ground truth disturbed."""
    answer_perfectly(sample)
    rng = np.random.default_rng(sample.img_id)
    pred = sample.pred_instances
    pred.bboxes += torch.from_numpy(rng.normal(size=pred.bboxes.shape) * 4).float()
    pred.bboxes[:, 2:] = pred.bboxes[:, 2:].maximum(pred.bboxes[:, :2])
    pred.scores = torch.from_numpy(rng.random(len(pred))).float()
    pred.masks = pred.masks.roll(5, dims=2)
    panoptic = sample.pred_panoptic_seg
    panoptic['panoptic'][:, :sample.ori_shape[1] // 3] = 0
    left = set(panoptic['panoptic'].unique().tolist())
    panoptic['segments_info'] = [s for s in panoptic['segments_info'] if s['id'] in left]
    sample.pred_sem_seg = sample.pred_sem_seg.roll(9, dims=0)


CONFIG = """
default_scope = 'mvp_mm'
model = dict(type='NoSuchModel')
load_from = 'no_such_checkpoint.pth'
test_dataloader = dict(coco=dict(
    batch_size=2, num_workers=0, dataset={dataset}, collate_fn=dict(type='perception_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False)))
test_evaluator = dict(coco=[dict(type='PanopticQualityMetric'), dict(type='SemanticIoUMetric'),
                            dict(type='CocoAPMetric')])
test_cfg = dict(type='MultiTestLoop')
"""


@pytest.fixture
def eval_metric(tmp_path, monkeypatch):
    """Run the tool in this process, inside an empty folder."""
    path = ROOT / 'tools' / 'analysis_tools' / 'eval_metric.py'
    spec = importlib.util.spec_from_file_location('tool_eval_metric', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)

    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['eval_metric', *args])
        module.main()

    yield run
    DefaultScope._instance_dict.clear()


def test_the_tool_finds_the_figures_of_the_test(pipeline, tmp_path, eval_metric):
    dataset = coco(pipeline, indices=5)
    (tmp_path / 'config.py').write_text(CONFIG.format(dataset=dataset))
    writer = PredictionWriter('saved/coco', dataset['data_root'] + '/' + dataset['ann_file'])
    expected = score_dataset(dataset, [
        writer, PanopticQualityMetric(), SemanticIoUMetric(), CocoAPMetric()], answer_badly)
    eval_metric('config.py', 'saved')
    found = json.loads((tmp_path / 'saved' / 'metrics.json').read_text())
    assert found == {f'coco/{name}': value for name, value in expected.items()}
    assert 0 < found['coco/panoptic/PQ'] < 100 and 0 < found['coco/coco/segm_AP'] < 100


def test_the_tool_names_missing_predictions(pipeline, tmp_path, eval_metric):
    (tmp_path / 'config.py').write_text(CONFIG.format(dataset=coco(pipeline, indices=3)))
    dataset = coco(pipeline, indices=2)
    score_dataset(dataset, [PredictionWriter(
        'saved/coco', dataset['data_root'] + '/' + dataset['ann_file'])])
    with pytest.raises(SystemExit, match='eval_metric: error: saved/coco/panoptic/images.json has '
                                         'no prediction for image'):
        eval_metric('config.py', 'saved')


@pytest.mark.parametrize('args, message', [
    (('config.py', 'nowhere'), 'no such folder: nowhere'),
    (('config.py', '.', '--only', 'lvis'), r"test_dataloader has no lvis; it has \['coco'\]"),
])
def test_the_tool_ends_bad_input_in_one_error(pipeline, tmp_path, eval_metric, args, message):
    (tmp_path / 'config.py').write_text(CONFIG.format(dataset=coco(pipeline, indices=1)))
    with pytest.raises(SystemExit, match=f'eval_metric: error: .*{message}'):
        eval_metric(*args)
