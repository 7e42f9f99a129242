# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import ast

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mvp_mm.datasets.transforms import BuildInstructions
from mvp_mm.engine import check_config, load_config
from mvp_mm.registry import METRICS, TASKS
from mvp_mm.structures import Instruction, PerceptionDataSample, RawPrediction
from mvp_mm.tasks.prompts import word_prompt
from tests.helpers import (
    CANVAS,
    ROOT,
    build_model,
    make_annotation,
    make_batch,
    make_samples,
    save_tokenizer,
)
from tests.test_engine import toys  # noqa: F401  registers the toy dataset

CONFIG = ROOT / 'projects/counting/configs/counting_tiny.py'


@pytest.fixture(scope='module')
def config():
    """Reading the config is what loads the plugin: this file never imports it."""
    return load_config(CONFIG)


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
    return save_tokenizer(tmp_path_factory.mktemp('tokenizer'))


def word_sample(phrases, is_thing):
    sample = PerceptionDataSample(metainfo=dict(
        img_id=0, ori_shape=(CANVAS, CANVAS), img_shape=(CANVAS, CANVAS),
        batch_input_shape=(CANVAS, CANVAS)))
    sample.instruction = Instruction(
        task='counting', kind='word', prompt=word_prompt(phrases), response=[], phrases=phrases,
        is_thing=np.array(is_thing))
    return sample


def raw_prediction(probabilities):
    logits = torch.tensor(probabilities).log()
    boxes = torch.full((len(logits), 4), 0.5)
    return RawPrediction(logits, boxes, torch.zeros(len(logits), 4, 4), len(logits))


def truth(labels, crowd=None):
    return dict(labels=np.array(labels, dtype=np.int64),
                crowd=np.zeros(len(labels), bool) if crowd is None else np.array(crowd))


def measured(config, *samples):
    metric = METRICS.build(config.test_evaluator.counting[0])
    metric.dataset_meta = {}
    metric.process(None, [
        dict(img_id=index, instruction=word_sample(['cat', 'dog'], [True, True]).instruction,
             gt_eval=gt, pred_counts=counts) for index, (counts, gt) in enumerate(samples)])
    return metric.evaluate(len(samples))


def test_the_config_loads_the_plugin(config):
    for registry, name in ((TASKS, 'CountingTask'), (METRICS, 'CountingMetric')):
        assert registry.get(name).__module__.startswith('projects.counting.counting.')


def test_the_config_passes_the_check(tokenizer):
    weights = str(ROOT / 'mvp_mm/weights/tiny/model.safetensors')    # in place of the encoder's
    check_config(load_config(CONFIG, {'model.tokenizer.path': tokenizer, 'load_from': weights}),
                 modes=())


def test_its_test_loader_builds_with_the_workers_of_the_tiny_config(config):
    loader = dict(config.test_dataloader.counting, dataset=dict(type='mvp_mm.ToyDataset'))
    with DefaultScope.overwrite_default_scope('mvp_mm'):
        built = Runner.build_dataloader(loader, seed=0)
    assert (built.num_workers, built.persistent_workers) == (0, False)


def test_the_config_changes_only_the_test_and_the_inferencer(config):
    parent = load_config(ROOT / 'configs/mvplm/tiny/pretrained.py')
    differing = {key for key in config.keys() | parent.keys()
                 if config.get(key) != parent.get(key)}
    assert differing == {'custom_imports', 'test_dataloader', 'test_evaluator', 'inferencer'}


def test_core_imports_no_project():
    found = []
    for folder in ('mvp_mm', 'tools', 'demo', 'configs'):
        for path in (ROOT / folder).rglob('*.py'):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = [node.module or '']
                else:
                    continue
                found += [f'{path}: {name}' for name in names if name.split('.')[0] == 'projects']
    assert not found


def test_instances_are_counted_by_phrase(config):
    sample = word_sample(['cat', 'dog', 'sky'], [True, True, False])
    raw = raw_prediction([[.9, .0, .0, .1], [.6, .1, .0, .3], [.1, .2, .1, .6], [.0, .1, .8, .1]])
    TASKS.build(config.inferencer.tasks.counting).decode(raw, sample)
    assert sample.pred_counts == {'cat': 2, 'dog': 0}
    torch.testing.assert_close(sample.pred_instances.scores, torch.tensor([.9, .6]))


def test_a_higher_threshold_counts_fewer(config):
    sample = word_sample(['cat'], [True])
    raw = raw_prediction([[.9, .1], [.6, .4]])
    TASKS.build(dict(type='CountingTask', score_thr=0.7)).decode(raw, sample)
    assert sample.pred_counts == {'cat': 1}


@pytest.mark.parametrize('score_thr', [0.49, 1.0])
def test_a_threshold_that_could_count_twice_or_never_is_refused(config, score_thr):
    with pytest.raises(ValueError, match=f'score_thr .* got {score_thr}'):
        TASKS.build(dict(type='CountingTask', score_thr=score_thr))


def test_the_error_is_averaged_by_class_then_over_classes(config):
    metrics = measured(config, ({'cat': 2, 'dog': 0}, truth([0, 0, 0, 1])),
                       ({'cat': 0, 'dog': 0}, truth([1, 1])))
    assert metrics == {'counting/cat/MAE': 0.5, 'counting/dog/MAE': 1.5, 'counting/MAE': 1.0}


def test_classes_with_a_crowd_region_have_no_known_count(config):
    metrics = measured(config, ({'cat': 5, 'dog': 1}, truth([0, 1, 0], [True, False, False])))
    assert metrics == {'counting/dog/MAE': 0.0, 'counting/MAE': 0.0}


def test_the_pipeline_asks_it(config, tokenizer):
    task = TASKS.build(config.inferencer.tasks.counting)
    transform = BuildInstructions(training=True, tokenizer=dict(
        type='InstructionTokenizer', path=tokenizer, num_visual_tokens=4, max_length=256))
    annotation = make_annotation()
    annotation.labels = np.array([0, 0, 3])
    results = transform.transform(dict(annotation=annotation, tasks=[task]))
    request, = results['requests']
    # The third object is stuff, and stuff is not counted.
    assert request.targets.tolist() == [0, 1]
    assert sorted(request.instruction.phrases) == ['circle', 'square', 'star']


def test_the_model_trains_on_it(config, tokenizer):
    model = build_model(tokenizer).train()
    batch = make_batch([make_samples('CountingTask', tokenizer)])
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    total = model.parse_losses(losses)[0]
    total.backward()
    assert losses['loss_word'] > 0 and torch.isfinite(total)
    assert model.perception.text_mlp[0].weight.grad.abs().sum() > 0


def test_the_model_answers_it(config, tokenizer):
    model = build_model(tokenizer).eval()
    batch = make_batch([make_samples('CountingTask', tokenizer, training=False)])
    sample, = model.test_step(batch)
    assert list(sample.pred_counts) == ['circle', 'square', 'star']
    assert sum(sample.pred_counts.values()) == len(sample.pred_instances)
