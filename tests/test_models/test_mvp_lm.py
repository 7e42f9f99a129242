# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from mvp_mm.engine import StartCheckHook
from mvp_mm.models.language import append_tokens
from mvp_mm.models.state import InstructionBatch
from mvp_mm.registry import TASKS
from mvp_mm.structures import PerceptionDataSample
from tests.helpers import CANVAS, build_model, make_batch, make_samples

WORDS = ('PanopticTask', 'SemanticTask', 'InstanceTask', 'DetectionTask', 'PhraseGroundingTask')
SENTENCES = ('ReferringSegmentationTask', 'ReferringComprehensionTask', 'GeneralizedReferringTask')
TASK_NAMES = (*WORDS, *SENTENCES, 'CaptionTask')
MAIN = ('loss_word', 'loss_sent', 'loss_rank', 'loss_box_l1', 'loss_box_giou', 'loss_mask_bce',
        'loss_mask_dice')
QUERIES, STUFF = 8, 3


class Recorder:
    """Stands in for a task and keeps the raw prediction."""

    def decode(self, raw, sample):
        sample.set_field(raw, 'raw')


def perturb(model):
    """Move every weight, so that nothing hides behind an initial zero."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model


@pytest.fixture(scope='module')
def shared(tokenizer_path):
    """Models that no test changes: without denoising and with it."""
    return dict(plain=perturb(build_model(tokenizer_path, perception=dict(denoising=None))),
                full=perturb(build_model(tokenizer_path)))


@pytest.fixture
def model(shared):
    shared['plain'].zero_grad(set_to_none=True)
    return shared['plain'].eval()


@pytest.fixture
def training_model(shared):
    shared['full'].zero_grad(set_to_none=True)
    return shared['full'].train()


@pytest.fixture
def samples(tokenizer_path):
    """``samples(*tasks, **arguments of make_samples)``: the tasks' samples of one image."""
    def make(*tasks, **args):
        return [s for task in tasks for s in make_samples(task, tokenizer_path, **args)]
    return make


def prepare(model, groups, training=False, images=None):
    batch = make_batch(copy.deepcopy(groups))
    if images is not None:
        batch['inputs'] = [batch['inputs'][i] for i in images]
    return model.data_preprocessor(batch, training)


def total(losses):
    return sum(value for name, value in losses.items() if 'loss' in name)


def raw_predictions(model, groups, images=None):
    """Raw prediction of every sample, in order."""
    data = prepare(model, groups, images=images)
    for sample in data['data_samples']:
        sample.task_object = Recorder()
    return [s.raw for s in model(**data, mode='predict')]


def assert_same(found, expected):
    for name in ('logits', 'boxes', 'mask_logits'):
        torch.testing.assert_close(
            getattr(found, name), getattr(expected, name), atol=1e-4, rtol=1e-4)
    assert (found.num_dynamic, found.caption) == (expected.num_dynamic, expected.caption)


def supervised_names(selection=True, denoising=True):
    prefixes = [*['enc.'] * selection, 'd0.', 'd1.', '']
    names = {f'{p}{n}' for p, n in itertools.product(prefixes, MAIN)}
    if denoising:
        restored = [n for n in MAIN if n not in ('loss_sent', 'loss_rank')]
        names |= {f'denoise.d{i}.{n}' for i, n in itertools.product(range(2), restored)}
    return names | {'loss_llm'}


# Losses


@pytest.mark.parametrize('task', TASK_NAMES)
@pytest.mark.parametrize('empty', [False, True])
def test_losses_of_every_task(training_model, samples, task, empty):
    found = samples(task)
    if empty:
        for sample in found:
            sample.gt_instances = sample.gt_instances[:0]
    losses = training_model(**prepare(training_model, [found], True), mode='loss')
    assert {n for n in losses if 'loss' in n} == supervised_names()
    assert all(value.isfinite() for value in losses.values())
    assert losses['loss_llm'] > 0
    assert (losses['loss_word'] > 0) == (task in WORDS)
    assert (losses['loss_sent'] > 0) == (task in SENTENCES)
    has_targets = task != 'CaptionTask' and not empty
    for name in ('loss_box_l1', 'loss_box_giou', 'loss_mask_bce', 'loss_mask_dice'):
        assert (losses[name] > 0) == has_targets, name
        assert (losses[f'denoise.d0.{name}'] > 0) == (has_targets and task in WORDS), name


def test_an_image_without_objects(training_model, samples):
    found = samples('PanopticTask', 'DetectionTask', num_objects=0)
    losses = training_model(**prepare(training_model, [found], True), mode='loss')
    assert all(value.isfinite() for value in losses.values())
    assert losses['loss_box_l1'] == 0 and losses['loss_word'] > 0


@pytest.mark.parametrize('task', ['DetectionTask', 'ReferringComprehensionTask'])
def test_box_only_targets_have_no_mask_losses(training_model, samples, task):
    data = prepare(training_model, [samples(task, with_masks=False)], True)
    losses = training_model(**data, mode='loss')
    assert all(value == 0 for name, value in losses.items() if 'loss_mask' in name)
    assert losses['loss_box_l1'] > 0 and losses['loss_box_giou'] > 0


def test_losses_have_no_selection_set_where_nothing_is_selected(tokenizer_path, samples):
    model = build_model(tokenizer_path, perception=dict(
        denoising=None, query_generator=dict(type='LearnableQueryGenerator')))
    losses = model(**prepare(model, [samples('PanopticTask')], True), mode='loss')
    assert {n for n in losses if 'loss' in n} == supervised_names(False, False)


def test_denoising_does_not_change_the_other_losses(training_model, tokenizer_path, samples):
    groups = [samples('PanopticTask', 'ReferringSegmentationTask'), samples('DetectionTask')]
    model = build_model(tokenizer_path, perception=dict(denoising=None))
    model.load_state_dict(training_model.state_dict(), strict=False)
    with torch.no_grad():
        plain = model(**prepare(model, groups, True), mode='loss')
        noised = training_model(**prepare(training_model, groups, True), mode='loss')
    for name, value in plain.items():
        torch.testing.assert_close(noised[name], value, atol=1e-5, rtol=1e-4)


def test_stuff_targets_do_not_change_the_denoising_losses(tokenizer_path, samples):
    model = perturb(build_model(
        tokenizer_path, perception=dict(denoising=dict(label_noise=0.0, box_noise=0.0))))
    found = samples('PanopticTask', num_objects=6, seed=3)
    is_stuff = ~torch.from_numpy(found[0].instruction.is_thing)[found[0].gt_instances.labels]
    assert is_stuff.any() and not is_stuff.all()
    bare = copy.deepcopy(found)
    bare[0].gt_instances = bare[0].gt_instances[~is_stuff]
    with torch.no_grad():
        losses, expected = (model(**prepare(model, [g], True), mode='loss')
                            for g in (found, bare))
    names = [n for n in losses if n.startswith('denoise.')]
    assert len(names) == 10
    for name in names:
        torch.testing.assert_close(losses[name], expected[name], atol=1e-5, rtol=1e-4)


def test_a_batch_s_losses_can_be_averages_over_tokens_and_targets(model, samples, monkeypatch):
    monkeypatch.setattr(model.perception.criterion, 'normalization', 'targets')
    groups = [samples('PanopticTask', num_objects=4), samples('PanopticTask', num_objects=2,
                                                             seed=1)]
    with torch.no_grad():
        together = model(**prepare(model, groups, True), mode='loss')
        singles = [model(**prepare(model, [group], True, images=[0]), mode='loss')
                   for group in groups[:1]]
        singles.append(model(**prepare(model, [[], groups[1]], True), mode='loss'))
    tokens = [sum(int((s.instruction.labels[1:] != -100).sum()) for s in g) for g in groups]
    targets = [len(s.gt_instances) for s, in groups]
    assert targets == [4, 2]
    for name, counts in (('loss_llm', tokens), ('loss_box_l1', targets),
                         ('d0.loss_mask_bce', targets)):
        expected = sum(c * s[name] for c, s in zip(counts, singles, strict=True)) / sum(counts)
        torch.testing.assert_close(together[name], expected, atol=1e-4, rtol=1e-4)


def test_captions_beside_other_tasks_change_only_the_language_loss(model, samples):
    with torch.no_grad():
        alone = model(**prepare(model, [samples('PanopticTask')], True), mode='loss')
        mixed = model(**prepare(model, [samples('CaptionTask', 'PanopticTask')], True),
                      mode='loss')
    for name, value in alone.items():
        if name != 'loss_llm':
            torch.testing.assert_close(mixed[name], value, atol=1e-4, rtol=1e-4)
    assert abs(mixed['loss_llm'] - alone['loss_llm']) > 1e-5


def test_instructions_about_one_image_equal_those_about_copies(model, samples, monkeypatch):
    # Over images, a copy would take a share of its own.
    monkeypatch.setattr(model.perception.criterion, 'normalization', 'targets')
    first, second = (samples('PanopticTask', 'ReferringSegmentationTask', 'CaptionTask', seed=i)
                     for i in range(2))
    results = []
    for groups, images in (([first, second], [0, 1]),
                           ([[s] for s in first + second], [0] * len(first) + [1] * len(second))):
        model.zero_grad(set_to_none=True)
        losses = model(**prepare(model, groups, True, images), mode='loss')
        total(losses).backward()
        results.append((losses, [p.grad.clone() for p in model.parameters()]))
    (shared, gradients), (copies, expected) = results
    for name, value in copies.items():
        torch.testing.assert_close(shared[name], value, atol=1e-4, rtol=1e-4)
    largest = max(g.abs().max() for g in expected)
    assert all((a - b).abs().max() < 1e-4 * largest
               for a, b in zip(gradients, expected, strict=True))


def test_the_encoder_runs_once_an_image(model, samples):
    sizes = []
    hooks = [part.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
             for part in (model.encoder, model.connector)]
    data = prepare(model, [samples('PanopticTask', *SENTENCES), samples('DetectionTask')], True)
    assert len(data['data_samples']) == 11
    model(**data, mode='loss')
    model(**data, mode='tensor')
    for hook in hooks:
        hook.remove()
    assert sizes == [2] * 4


# Gradients

GRADIENT_MIXES = {
    'panoptic': (dict(tasks=['PanopticTask']), ),
    'sentences': (dict(tasks=['ReferringSegmentationTask']), ),
    'boxes': (dict(tasks=['DetectionTask'], with_masks=False), ),
    'sentences with boxes': (dict(tasks=['ReferringComprehensionTask'], with_masks=False), ),
    'captions': (dict(tasks=['CaptionTask']), ),
    'nothing to find': (dict(tasks=['PanopticTask'], num_objects=0), ),
    'everything': (dict(tasks=['PanopticTask', 'GeneralizedReferringTask', 'CaptionTask']),
                   dict(tasks=['PhraseGroundingTask'], with_masks=False)),
}


def backward(model, samples, mix):
    groups = [samples(*args['tasks'], **{k: v for k, v in args.items() if k != 'tasks'})
              for args in mix]
    total(model(**prepare(model, groups, True), mode='loss')).backward()


@pytest.mark.parametrize('mix', list(GRADIENT_MIXES))
def test_gradients_reach_every_parameter_in_each_mix(training_model, samples, mix):
    backward(training_model, samples, GRADIENT_MIXES[mix])
    missing = [n for n, p in training_model.named_parameters() if p.grad is None]
    assert not missing
    assert all(p.grad.isfinite().all() for p in training_model.parameters())


def test_everything_together_moves_every_parameter(training_model, samples):
    backward(training_model, samples, GRADIENT_MIXES['everything'])
    still = [n for n, p in training_model.named_parameters() if p.grad.abs().sum() == 0]
    assert not still


def test_a_frozen_encoder_gets_no_gradient(tokenizer_path, samples):
    model = build_model(tokenizer_path, encoder=dict(frozen=True)).train()
    backward(model, samples, GRADIENT_MIXES['everything'])
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith('encoder.'), name
    assert not model.encoder.training and model.perception.training


def test_the_connector_alone_trains_on_language(tokenizer_path, samples):
    model = build_model(tokenizer_path, trainable=['connector']).train()
    model.perception.loss = model.pixel_decoder.forward = None
    losses = model(**prepare(model, [samples('CaptionTask', 'PanopticTask')], True), mode='loss')
    assert list(losses) == ['loss_llm']
    total(losses).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith('connector.'), name


def test_an_encoder_that_trains_on_language_has_all_its_gradients(tokenizer_path, samples):
    model = build_model(tokenizer_path, trainable=['connector', 'encoder']).train()
    backward(model, samples, GRADIENT_MIXES['captions'])
    assert all(p.grad is not None for p in model.encoder.parameters())


def test_an_unknown_trainable_part_raises(tokenizer_path):
    with pytest.raises(ValueError, match=r"Cannot train \['adapter'\]: the model has .*connector"):
        build_model(tokenizer_path, trainable=['connector', 'adapter'])


@pytest.mark.parametrize('llm, tokenizer, message', [
    (dict(vocab_size=300), {}, r'has 372 tokens, the LLM embeds 300'),
    (dict(vocab_size=800), {}, r'has 372 tokens, the LLM embeds 800: .* another LLM'),
    ({}, dict(max_length=257), r"tokenizer.max_length=257 is more than the LLM's context of 256")])
def test_a_tokenizer_of_another_llm_stops_the_run_at_its_start(
        tokenizer_path, llm, tokenizer, message):
    model = build_model(tokenizer_path, llm=dict(config=llm), tokenizer=tokenizer)
    with pytest.raises(ValueError, match=message):
        StartCheckHook().before_run(SimpleNamespace(model=model))


def test_another_number_of_visual_tokens_raises(tokenizer_path, samples):
    model = build_model(tokenizer_path, tokenizer=dict(num_visual_tokens=5))
    with pytest.raises(ValueError, match=r'\(128, 128\) give 4 visual tokens, .* is 5'):
        model(**prepare(model, [samples('CaptionTask')], True), mode='loss')


# Predictions

FIELDS = {
    'PanopticTask': {'pred_panoptic_seg', 'pred_instances', 'pred_sem_seg'},
    'SemanticTask': {'pred_sem_seg'},
    'InstanceTask': {'pred_instances'},
    'DetectionTask': {'pred_instances'},
    'PhraseGroundingTask': {'pred_instances'},
    'ReferringSegmentationTask': {'pred_instances'},
    'ReferringComprehensionTask': {'pred_instances'},
    'GeneralizedReferringTask': {'pred_instances'},
    'CaptionTask': set(),
}


@pytest.mark.parametrize('task', TASK_NAMES)
def test_predictions_of_every_task(model, samples, task):
    found = samples(task, training=False)
    out = model(**prepare(model, [found]), mode='predict')
    assert len(out) == len(found) > 0
    for sample in out:
        fields = {k for k in sample.keys() if k.startswith('pred_')}  # noqa: SIM118
        assert fields == FIELDS[task] | {'pred_caption', 'pred_response_forced'}
        if 'pred_sem_seg' in sample:
            assert sample.pred_sem_seg.shape == (CANVAS, CANVAS)
        if 'pred_panoptic_seg' in sample:
            assert sample.pred_panoptic_seg['panoptic'].shape == (CANVAS, CANVAS)
        if 'pred_instances' in sample:
            assert ('masks' in sample.pred_instances) == sample.task_object.predicts_masks


@pytest.mark.parametrize('words', [1, 12])
def test_lists_of_one_and_of_many_phrases(model, tokenizer_path, words):
    task = TASKS.build(dict(type='PanopticTask'))
    instruction = task.ask(words=[f'red {i}' for i in range(words)]).instruction
    sample = PerceptionDataSample(
        metainfo=dict(img_shape=(CANVAS, CANVAS), ori_shape=(CANVAS, CANVAS)))
    sample.instruction = model.tokenizer.tokenize(instruction)
    raw, = raw_predictions(model, [[sample]])
    assert raw.logits.shape == (QUERIES + STUFF, words + 1)
    assert raw.logits.isfinite().all()
    assert raw.logits.min() > -1000


def test_raw_predictions_have_the_queries_and_columns_of_their_kind(model, samples):
    groups = [samples('PanopticTask', 'DetectionTask', 'CaptionTask', training=False)
              + samples('ReferringSegmentationTask', training=False)[:1]]
    panoptic, detection, caption, sentence = raw_predictions(model, groups)
    size = (CANVAS // 4, CANVAS // 4)
    assert panoptic.logits.shape == (QUERIES + STUFF, 5)
    assert panoptic.mask_logits.shape == (QUERIES + STUFF, *size)
    assert detection.logits.shape == (QUERIES, 4)
    assert sentence.logits.shape == caption.logits.shape == (QUERIES, )
    assert detection.boxes.shape == (QUERIES, 4)
    assert ((detection.boxes > 0) & (detection.boxes < 1)).all()


@pytest.mark.parametrize('thinking', [True, False])
def test_a_mixed_batch_s_predictions_equal_single_ones(model, samples, monkeypatch, thinking):
    monkeypatch.setattr(model, 'thinking', thinking)
    groups = [samples('PanopticTask', 'ReferringSegmentationTask', training=False),
              samples('CaptionTask', 'PhraseGroundingTask', training=False, seed=1)]
    together = raw_predictions(model, groups)
    images = [0] * len(groups[0]) + [1] * len(groups[1])
    flat = groups[0] + groups[1]
    lengths = {s.instruction.prompt_length for s in flat}
    assert len(lengths) > 2
    for found, sample, image in zip(together, flat, images, strict=True):
        alone, = raw_predictions(model, [[], [sample]] if image else [[sample]])
        assert_same(found, alone)


@pytest.mark.parametrize('thinking', [True, False])
def test_predictions_about_one_image_equal_those_about_copies(
        model, samples, monkeypatch, thinking):
    monkeypatch.setattr(model, 'thinking', thinking)
    found = samples('PanopticTask', *SENTENCES, 'CaptionTask', training=False)
    shared = raw_predictions(model, [found])
    copies = raw_predictions(model, [[s] for s in found], images=[0] * len(found))
    for a, b in zip(shared, copies, strict=True):
        assert_same(a, b)


def test_text_padding_never_changes_a_teacher_forced_result(model, samples):
    word, sentence = samples('PanopticTask')[0], samples('ReferringSegmentationTask')[0]
    assert len(word.instruction.input_ids) > len(sentence.instruction.input_ids)
    with torch.no_grad():
        together = model(**prepare(model, [[word, sentence]], True), mode='tensor')
        alone = model(**prepare(model, [[sentence]], True), mode='tensor')
    torch.testing.assert_close(together[0][1, :QUERIES, 0], alone[0][0, :, 0],
                               atol=1e-4, rtol=1e-4)
    for a, b in zip(together[1:], alone[1:], strict=True):
        torch.testing.assert_close(a[1, :QUERIES], b[0], atol=1e-4, rtol=1e-4)


def test_without_thinking_the_result_follows_at_once(model, samples, monkeypatch):
    monkeypatch.setattr(model, 'thinking', False)
    monkeypatch.setattr(model.llm, 'generate', None)
    found = samples('PanopticTask', 'ReferringSegmentationTask', response='none')
    raws = raw_predictions(model, [found])
    with torch.no_grad():
        logits, boxes, masks = model(**prepare(model, [found]), mode='tensor')
    assert all(raw.caption == '' for raw in raws)
    torch.testing.assert_close(raws[0].logits, logits[0], atol=1e-4, rtol=1e-4)
    for r, raw in enumerate(raws):
        queries = len(raw.boxes)
        torch.testing.assert_close(raw.boxes, boxes[r, :queries], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(raw.mask_logits, masks[r, :queries], atol=1e-4, rtol=1e-4)


def prompts(model, groups):
    data = prepare(model, groups)
    batch = InstructionBatch.collate(data['data_samples'], torch.device('cpu'))
    with torch.no_grad():
        return model.encode(data['inputs'], data['data_samples']), batch


def test_thinking_equals_reading_what_was_written(model, samples):
    state, batch = prompts(model, [samples('PanopticTask', 'ReferringSegmentationTask',
                                           training=False)])
    thought = model.generate_then_read(state, batch)
    for r in range(len(batch.ids)):
        row = batch.select([r])
        n = int(row.mask.sum())
        row = replace(row, **{k: getattr(row, k)[:, :n]
                              for k in ('ids', 'mask', 'phrase_index', 'labels')})
        written = thought.captions[r].tolist()
        assert written[-1] == model.per_id and 1 <= len(written) <= model.max_response_tokens
        with torch.no_grad():
            _, read = model.forward_llm(state, append_tokens(row, written))
        torch.testing.assert_close(thought.summary[r], read.summary[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(thought.text[r], read.text[0], atol=1e-4, rtol=1e-4)


def test_sampled_answers_of_a_batch_equal_single_ones(tokenizer_path, samples):
    model = perturb(build_model(tokenizer_path, perception=dict(denoising=None),
                                max_response_tokens=16,
                                llm=dict(sampling=dict(temperature=3.0, seed=3)))).eval()
    found = samples('PanopticTask', 'ReferringSegmentationTask', training=False)
    together = raw_predictions(model, [found])
    for raw, sample in zip(together, found, strict=True):
        alone, = raw_predictions(model, [[sample]])
        assert_same(raw, alone)
    assert len({raw.caption for raw in together}) > 1


def test_captions_end_with_the_end_of_text(model, samples):
    state, batch = prompts(model, [samples('CaptionTask', 'PanopticTask', training=False)])
    caption, panoptic = model.generate_then_read(state, batch).captions
    assert caption[-1] == model.tokenizer.eos_id and panoptic[-1] == model.per_id


def test_the_summary_is_the_state_of_the_summary_token(model, samples):
    data = prepare(model, [samples('PanopticTask', 'ReferringSegmentationTask')])
    batch = InstructionBatch.collate(data['data_samples'], torch.device('cpu'), model.per_id)
    with torch.no_grad():
        states, language = model.forward_llm(model.encode(*data.values()), batch)
    for r, sample in enumerate(data['data_samples']):
        at = sample.instruction.input_ids.tolist().index(model.per_id)
        torch.testing.assert_close(language.summary[r], states[r, at], rtol=0, atol=0)


def test_the_visual_tokens_are_read(model, samples):
    sample = samples('PanopticTask', training=False)
    first, = raw_predictions(model, [sample])
    other, = raw_predictions(model, [[], sample])
    assert (first.logits - other.logits).abs().max() > 1e-3


def test_padding_of_the_canvas_is_known_from_the_image_s_shape(model, samples):
    data = prepare(model, [samples('DetectionTask'), samples('DetectionTask')])
    data['data_samples'][1].set_metainfo(dict(img_shape=(CANVAS // 2, CANVAS)))
    with torch.no_grad():
        padding = model.encode(*data.values()).padding_mask
    side = CANVAS // 8
    finest = padding[1, :side * side].view(side, side)
    assert not padding[0].any()
    assert not finest[:side // 2].any() and finest[side // 2:].all()


def test_predicting_keeps_no_graph(model, samples):
    raw, = raw_predictions(model, [samples('PanopticTask', training=False)])
    assert not raw.logits.requires_grad and not raw.mask_logits.requires_grad


def test_an_unknown_mode_raises(model, samples):
    with pytest.raises(ValueError, match="got 'train'"):
        model(**prepare(model, [samples('CaptionTask')]), mode='train')
