# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mvp_mm.engine import loops
from tests.test_engine import toys


class Recorder:
    """Stands in for a hook and keeps what it was told."""

    priority = 50

    def __init__(self):
        self.steps, self.epochs = [], []

    def after_test_iter(self, runner, batch_idx, data_batch, outputs):
        self.steps.append((batch_idx, len(outputs), len(runner.test_dataloader)))

    def after_test_epoch(self, runner, metrics):
        self.epochs.append(metrics)


def test_flat_outputs_are_all_scored(toy_config, make_runner):
    runner = make_runner(toy_config)
    recorder = Recorder()
    runner._hooks.append(recorder)
    metrics = runner.test()
    # Items 0..4 carry 0, 1, 2, 0, 1 instructions, items 0..3 carry 0, 1, 2, 0.
    assert metrics == {
        'panoptic/toy/count': 4, 'panoptic/toy/total': 1 + 2 * 2 + 4.0,
        'refcoco/toy/count': 3, 'refcoco/toy/total': 1 + 2 * 2.0}
    assert recorder.steps == [(0, 1, 5), (1, 2, 5), (2, 1, 5), (3, 1, 5), (4, 2, 5)]
    assert recorder.epochs == [metrics]


def test_the_model_runs_in_eval_mode_without_gradients(toy_config, make_runner):
    runner = make_runner(toy_config)
    seen = []
    runner.model.head.register_forward_hook(
        lambda module, args, out: seen.append((module.training, out.requires_grad)))
    runner.test()
    assert set(seen) == {(False, False)}


def test_validation_interleaves_with_training(toy_config, make_runner):
    toy_config.train_cfg.val_interval = 2
    toy_config.val_cfg = dict(type='MultiValLoop')
    toy_config.val_dataloader = dict(referring=toys.toy_loader(5))
    toy_config.val_evaluator = dict(referring=dict(type='ToyMetric'))
    toy_config.default_hooks.checkpoint.save_best = 'referring/toy/count'
    toy_config.default_hooks.checkpoint.rule = 'greater'
    runner = make_runner(toy_config)
    runner.train()
    assert runner.message_hub.get_scalar('val/referring/toy/count').current() == 4
    assert runner.message_hub.get_info('best_score') == 4


@pytest.mark.parametrize('when, problem', [
    ('evaluate', 'nothing can be computed'), ('process', 'a sample has no score')])
def test_what_one_data_set_cannot_measure_loses_no_other_figure(
        toy_config, make_runner, when, problem):
    toy_config.test_evaluator = dict(
        panoptic=[dict(type='BrokenMetric', when=when)], refcoco=dict(type='ToyMetric'))
    runner = make_runner(toy_config)
    metrics = runner.test()
    assert metrics == {'refcoco/toy/count': 3, 'refcoco/toy/total': 1 + 2 * 2.0}
    assert runner.test_loop.problems == {'panoptic': problem}


@pytest.mark.parametrize(('when', 'problem'), [
    ('evaluate', 'nothing can be computed'), ('process', 'a sample has no score'),
    ('divide', 'BrokenMetric: ZeroDivisionError: division by zero'),
    ('index', 'BrokenMetric: IndexError: list index out of range')])
def test_a_metric_that_fails_loses_no_other_of_its_dataset(
        toy_config, make_runner, when, problem):
    toy_config.test_evaluator.panoptic = [
        dict(type='BrokenMetric', when=when), dict(type='ToyMetric')]
    runner = make_runner(toy_config)
    for _ in range(2):     # a second run of the loop starts afresh
        assert runner.test()['panoptic/toy/count'] == 4
        assert runner.test_loop.problems == {'panoptic': problem}


def test_training_goes_on_after_a_validation_that_fails(toy_config, make_runner):
    toy_config.train_cfg.val_interval = 2
    toy_config.val_cfg = dict(type='MultiValLoop')
    toy_config.val_dataloader = dict(first=toys.toy_loader(5), second=toys.toy_loader(5))
    toy_config.val_evaluator = dict(first=dict(type='BrokenMetric'), second=dict(type='ToyMetric'))
    runner = make_runner(toy_config)
    runner.train()
    assert runner.iter == 4
    assert runner.message_hub.get_scalar('val/second/toy/count').current() == 4


def test_names_must_agree(toy_config, make_runner):
    toy_config.test_evaluator = dict(panoptic=dict(type='ToyMetric'))
    runner = make_runner(toy_config)
    with pytest.raises(ValueError, match=r"\['panoptic', 'refcoco'\].*\['panoptic'\]"):
        runner.test()


def test_a_padding_sampler_is_refused_on_several_ranks(toy_config, make_runner, monkeypatch):
    monkeypatch.setattr(loops, 'get_world_size', lambda: 2)
    toy_config.test_dataloader.refcoco = toys.toy_loader(4, type='DefaultSampler', shuffle=False)
    runner = make_runner(toy_config)
    with pytest.raises(ValueError, match=r'test_dataloader\.refcoco\.sampler.*round_up=False'):
        runner.test()


def test_metrics_are_logged_and_written_as_soon_as_a_dataset_is_done(toy_config, make_runner):
    runner = make_runner(toy_config)
    seen = []

    class Look(Recorder):

        def after_test_iter(self, runner, batch_idx, data_batch, outputs):
            files = list(Path(runner.log_dir).glob('test_metrics.json'))
            seen.append(json.loads(files[0].read_text()) if files else None)

    runner._hooks.append(Look())
    runner.test()
    first = {'panoptic/toy/count': 4, 'panoptic/toy/total': 9.0}
    assert seen == [None, None, None, first, first]
    log = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert 'test of panoptic: panoptic/toy/count: 4.0000' in log


@pytest.mark.parametrize('dtype, expected', [
    (None, torch.float32), ('bfloat16', torch.bfloat16), ('float16', torch.float16)])
def test_the_model_runs_in_the_type_asked_for(toy_config, make_runner, dtype, expected):
    toy_config.test_cfg.dtype = dtype
    runner = make_runner(toy_config)
    seen = set()
    runner.model.head.register_forward_hook(lambda module, args, out: seen.add(out.dtype))
    runner.test()
    assert seen == {expected}


def test_an_unknown_type_is_refused(toy_config, make_runner):
    toy_config.test_cfg.dtype = 'half'
    with pytest.raises(ValueError, match="test_cfg.dtype must be 'bfloat16', .* got 'half'"):
        make_runner(toy_config).test()


def test_the_model_is_accelerated_once_before_it_is_tested(toy_config, make_runner, monkeypatch):
    asked = []
    monkeypatch.setattr(loops, 'accelerate_answers', lambda model, weights, **settings:
                        asked.append((model.training, weights, settings)))
    toy_config.test_cfg.update(
        dtype='bfloat16', acceleration=dict(weights='bfloat16', graphs=False))
    runner = make_runner(toy_config)
    for _ in range(2):
        runner.test()
    assert asked == [(False, torch.bfloat16, dict(graphs=False))]


def test_weights_in_another_precision_than_the_test_are_refused(toy_config, make_runner):
    toy_config.test_cfg.update(acceleration=dict(weights='bfloat16'))
    with pytest.raises(ValueError, match='same as test_cfg.dtype'):
        make_runner(toy_config).test()
