# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from mvp_mm.engine import StartCheckHook
from mvp_mm.models.language import append_tokens
from mvp_mm.models.state import InstructionBatch
from mvp_mm.registry import TASKS
from mvp_mm.structures import PerceptionDataSample
from tests.helpers import CANVAS, build_model
from tests.test_models.mvp_lm_runs import (
    QUERIES,
    SENTENCES,
    STUFF,
    TASK_NAMES,
    assert_same,
    perturb,
    prepare,
    raw_predictions,
    total,
)


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


FIELDS = {
    'PanopticTask': {'pred_panoptic_seg', 'pred_instances', 'pred_sem_seg'},
    'SemanticTask': {'pred_sem_seg'},
    'InstanceTask': {'pred_instances'},
    'DetectionTask': {'pred_instances'},
    'PhraseGroundingTask': {'pred_instances'},
    'ReferringSegmentationTask': {'pred_instances', 'pred_sentence_presence'},
    'ReferringComprehensionTask': {'pred_instances', 'pred_sentence_presence'},
    'GeneralizedReferringTask': {'pred_instances', 'pred_sentence_presence'},
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
