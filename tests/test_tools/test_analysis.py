# Copyright (c) mvp_mm authors. All rights reserved.
"""The tools that ask a trained model in several ways, on a tiny model and miniature data."""
from __future__ import annotations

import importlib
import json
import re
import sys

import cv2
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

from mvp_mm.structures import Answering, RawPrediction
from tests.benchmark_root import ALL, enter
from tests.helpers import ROOT, build_model, make_batch, make_samples, save_tokenizer


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A folder with data and weights; the tools are importable there."""
    root = tmp_path_factory.mktemp('analysis')
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / 'tools/analysis_tools'))
        enter(root, patch)
        yield root
    DefaultScope._instance_dict.clear()


@pytest.fixture
def run(place, monkeypatch, capsys):
    """Run a tool; return its JSON and what it printed."""
    def call(name, figures, *args):
        tool = importlib.import_module(name)
        monkeypatch.setattr(sys, 'argv', [
            name, str(ALL), 'model.pth', '--out', f'out_{name}', '--datasets', *args])
        level = MMLogger.get_current_instance().level
        try:
            tool.main()
        finally:
            MMLogger.get_current_instance().setLevel(level)
        content = json.loads((place / f'out_{name}/{figures}.json').read_text())
        return content, capsys.readouterr().out
    return call


@pytest.fixture(scope='module')
def model(place, tmp_path_factory):
    return build_model(save_tokenizer(tmp_path_factory.mktemp('tokenizer'))).eval()


def queries(model, **parts):
    """Content and boxes that a question's queries start from, and the two parts of the content."""
    tool = importlib.import_module('query_contribution')
    path = model.tokenizer.path
    seen = {}
    generator = model.perception.query_generator
    handles = [
        generator.register_forward_hook(lambda m, a, out: seen.update(all=out)),
        # First in line: before a part is set to zero.
        generator.base.register_forward_hook(
            lambda m, a, out: seen.update(base=out), prepend=True),
        generator.selection.register_forward_hook(
            lambda m, a, out: seen.update(residual=out.content.clone(), boxes=out.boxes),
            prepend=True)]
    try:
        with tool.only(model, **parts):
            samples = make_samples('DetectionTask', path, training=False)
            model.test_step(make_batch([samples]))
    finally:
        for handle in handles:
            handle.remove()
    return seen


def test_zeroing_a_part_of_the_queries_leaves_exactly_the_other(model):
    full = queries(model, base=True, residual=True, box=True)
    assert torch.equal(full['all'].content, full['residual'] + full['base'])
    residual = queries(model, base=False, residual=True, box=True)
    assert torch.equal(residual['all'].content, full['residual'])
    base = queries(model, base=True, residual=False, box=True)
    assert torch.equal(base['all'].content, full['base'])
    assert torch.equal(base['all'].boxes, full['all'].boxes)
    whole = queries(model, base=True, residual=False, box=False)
    assert torch.equal(whole['all'].boxes[0, 0], torch.tensor([.5, .5, 1., 1.]))
    after = queries(model, base=True, residual=True, box=True)
    assert torch.equal(after['all'].content, full['all'].content)


def test_queries_without_the_two_parts_are_refused(place, model):
    tool = importlib.import_module('query_contribution')
    other = build_model(model.tokenizer.path, perception=dict(
        query_generator=dict(type='VisualQueryGenerator')))
    with (pytest.raises(ValueError, match='VisualQueryGenerator does not make queries'),
          tool.only(other, base=True, residual=True, box=True)):
        pass


def test_watched_points_are_the_last_layers(place, model):
    tool = importlib.import_module('query_contribution')
    sample = make_samples('ReferringSegmentationTask', model.tokenizer.path, training=False)[0]
    watch = tool.Watch(model, sample.task_object)
    sample.task_object = watch
    answered, = model.test_step(make_batch([[sample]]))
    watch.handle.remove()
    attention = model.perception.decoder.layers[-1].cross_attention
    points = attention.num_heads * attention.num_levels * attention.num_points
    assert watch.locations.shape == (8, points, 2) and watch.weights.shape == (8, points)
    torch.testing.assert_close(watch.weights.sum(1), torch.ones(8))
    assert len(watch.answering(answered)) == len(answered.pred_instances) == 1


def answering_of(model, task, **raw):
    """The queries that a task's decoding chooses, as the tool finds them, and the sample."""
    tool = importlib.import_module('query_contribution')
    sample = make_samples(task, model.tokenizer.path, training=False)[0]
    sample.set_metainfo(dict(ori_shape=(64, 64), img_shape=(64, 64), batch_input_shape=(64, 64)))
    watch = tool.Watch(model, sample.task_object)
    watch.handle.remove()
    size = len(raw['logits'])
    watch.decode(RawPrediction(mask_logits=torch.zeros(size, 16, 16), num_dynamic=size, **raw),
                 sample)
    return watch.answering(sample), sample


def test_the_query_that_answers_a_sentence_is_the_one_that_decoding_chose(place, model):
    # The best single query stands alone; two others lie on one object and weigh more together.
    boxes = torch.tensor([[.2, .2, .2, .2], [.7, .7, .3, .3], [.7, .71, .3, .3]])
    queries, sample = answering_of(model, 'ReferringSegmentationTask', boxes=boxes,
                                   logits=torch.tensor([2., 1.8, 1.9]),
                                   answering=Answering(same_iou=0.7))
    assert queries == [2]
    assert sample.pred_instances.bboxes[0].tolist() == pytest.approx([35.2, 35.84, 54.4, 55.04])


@pytest.mark.parametrize('logits, expected', [([1., -3., 2.], [2, 0]), ([-1., -3., -2.], [])])
def test_any_number_of_queries_may_answer_a_sentence(place, model, logits, expected):
    boxes = torch.tensor([[.2, .2, .2, .2]]).repeat(3, 1)
    queries, _ = answering_of(model, 'GeneralizedReferringTask', boxes=boxes,
                              logits=torch.tensor(logits))
    assert queries == expected


def test_contribution_of_the_queries_parts(run, place):
    figures, out = run('query_contribution', 'query_contribution', 'coco_panoptic', 'refcoco_val',
                       '--pictures', '1')
    for part in figures.values():
        assert list(part) == ['full', 'residual', 'base + box', 'base']
        assert part['full']['IoU with the full model'] == 100
        assert all(0 <= value <= 100 for scores in part.values() for value in scores.values())
    assert 'panoptic/PQ' in figures['coco_panoptic']['base']
    assert '| referring/cIoU |' in out
    picture = cv2.imread(str(place / 'out_query_contribution/points_refcoco_val.png'))
    assert picture.shape[1] > 4 * 300


def test_length_of_the_response(run):
    figures, _ = run('caption_ablation', 'caption_ablation', 'coco_panoptic', '--lengths', 'none',
                     '2', 'full')
    scores = figures['coco_panoptic']
    assert list(scores) == ['none', '2', 'full']
    assert scores['none']['caption_words'] == 0
    assert all('panoptic/PQ' in part for part in scores.values())


@pytest.mark.parametrize('length, thinking, limit', [
    ('none', False, 0), ('4', True, 4), ('full', True, 6)])
def test_a_length_counts_the_tokens_before_the_result(
        place, model, monkeypatch, length, thinking, limit):
    tool = importlib.import_module('caption_ablation')
    monkeypatch.setattr(model, 'thinking', True)
    ending = len(model.ending)
    monkeypatch.setattr(model, 'max_response_tokens', 0)
    tool.apply_length(model, length, ending + 6)
    assert model.thinking == thinking
    assert model.max_response_tokens == (ending + limit if thinking else ending + 6)


@pytest.mark.parametrize('length', ['0', '7', 'long', '-1'])
def test_a_length_that_means_nothing_is_refused(place, model, length):
    tool = importlib.import_module('caption_ablation')
    with pytest.raises(ValueError, match=f"from 1 to 6, got '{length}'"):
        tool.apply_length(model, length, len(model.ending) + 6)


def test_robustness_compares_the_same_sentences(run):
    figures, out = run('robustness', 'robustness', 'refcoco_val', '--rules', 'request', 'synonym',
                       'with_article')
    found = figures['refcoco_val']
    # "man in red", "man" and "red shirt".
    assert {rule: part['number'] for rule, part in found.items()} == dict(
        request=3, synonym=2, with_article=3)
    assert found['request']['before'] == found['with_article']['before']
    assert found['synonym']['example'] == 'man in red → guy in red'
    assert '| request | 3 |' in out


def test_a_rewording_that_changes_nothing_changes_no_answer(run, place, monkeypatch):
    tool = importlib.import_module('robustness')
    monkeypatch.setattr(tool, 'paraphrase', lambda text, rule: text)
    figures, _ = run('robustness', 'robustness', 'refcoco_val', '--rules', 'request')
    part = figures['refcoco_val']['request']
    assert part['agreement'] == 100 and part['before'] == part['after']


def test_word_lists_are_no_expressions(run):
    with pytest.raises(SystemExit, match='coco_panoptic asks by word, this tool needs sentence'):
        run('robustness', 'robustness', 'coco_panoptic')


def test_failure_sheets_show_the_worst_first(run, place):
    figures, _ = run('failure_sheets', 'failures', 'refcoco_val', 'coco_panoptic', '--worst', '2')
    values = [entry['IoU'] for entry in figures['refcoco_val']]
    assert len(values) == 2 and values == sorted(values)
    assert 'PQ' in figures['coco_panoptic'][0]
    assert cv2.imread(str(place / 'out_failure_sheets/refcoco_val.png')).std() > 1


@pytest.mark.parametrize('args, message', [
    (['nothing'], r"test_dataloader has no nothing; it has \['"),
    (['refcoco_val', '--images', '0'], '--images must be positive'),
    (['refcoco_val', '--cfg-options', 'test_dataloader.refcoco_val.dataset.data_root=gone'],
     'no such folder: gone')])
def test_bad_input_ends_in_one_error(run, args, message):
    with pytest.raises(SystemExit, match=message):
        run('failure_sheets', 'failures', *args)


TEST_PARTS = dict(
    none=('', 'test_dataloader and test_evaluator are needed'),
    unnamed=('test_dataloader = dict(dataset=dict())\ntest_evaluator = dict(type="X")\n',
             'tests one dataset, which has no name'),
    unmeasured=('test_dataloader = dict(a=dict(), b=dict())\ntest_evaluator = dict(a=[dict()])\n',
                'test_evaluator has no b'))


@pytest.mark.parametrize('part', TEST_PARTS)
def test_a_config_without_named_tests_ends_in_one_error(place, monkeypatch, part):
    text, message = TEST_PARTS[part]
    (place / 'other.py').write_text(text)
    tool = importlib.import_module('failure_sheets')
    monkeypatch.setattr(sys, 'argv', ['x', 'other.py', 'model.pth', '--out', 'out'])
    level = MMLogger.get_current_instance().level
    try:
        with pytest.raises(SystemExit, match=f'failure_sheets: error: other.py: {message}'):
            tool.main()
    finally:
        MMLogger.get_current_instance().setLevel(level)


def test_first_weights_that_the_checkpoint_replaces_need_not_be_there(run):
    start = 'model.encoder.backbone.init_cfg'
    assert run('robustness', 'robustness', 'refcoco_val', '--rules', 'request', '--cfg-options',
               f'{start}.type=Pretrained', f'{start}.checkpoint=gone.pth')[0]


def test_a_missing_prediction_ends_in_one_error(run, monkeypatch):
    tool = importlib.import_module('mvp_mm.analysis.evaluated_model')
    answer = tool.EvaluatedModel.answer

    def without(self, batch):
        samples = answer(self, batch)
        for sample in samples:
            del sample.pred_instances.masks
        return samples

    monkeypatch.setattr(tool.EvaluatedModel, 'answer', without)
    with pytest.raises(SystemExit, match='robustness: error: ReferringMetric: .* has no pred_inst'):
        run('robustness', 'robustness', 'refcoco_val', '--rules', 'request')


def test_what_evaluation_adds_to_inference_is_told_for_every_data_set(place, monkeypatch, capsys):
    tool = importlib.import_module('benchmark_metrics')
    monkeypatch.setattr(sys, 'argv', [
        'x', '--config', str(ALL), '--checkpoint', 'model.pth', '--images', '1', '--datasets',
        'coco_panoptic', 'refcoco_val'])
    level, threads = MMLogger.get_current_instance().level, torch.get_num_threads()
    try:
        tool.main()
    finally:
        MMLogger.get_current_instance().setLevel(level)
        torch.set_num_threads(threads)
    lines = capsys.readouterr().out.splitlines()
    found = [re.match(r'(\w+), 1 images, (\d+) instructions: test_step ([\d.]+) s, process of the '
                      r'metrics ([\d.]+) s: ([\d.]+) %; evaluate', line) for line in lines]
    names = [match[1] for match in found if match]
    assert names == ['coco_panoptic', 'refcoco_val']
    for match in filter(None, found):
        # Times are printed to 0.01 s.
        step, process, share = map(float, match.groups()[2:])
        assert step > 0 and abs(share * step / 100 - process) < 0.005 * (1 + share / 100) + 0.002


def test_a_config_without_a_checkpoint_is_not_timed(place, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['x', '--config', str(ALL)])
    with pytest.raises(SystemExit):
        importlib.import_module('benchmark_metrics').main()
    assert '--config and --checkpoint need each other' in capsys.readouterr().err
