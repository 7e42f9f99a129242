# Copyright (c) mvp_mm authors. All rights reserved.
"""Questions about an image that is encoded once give what whole runs give."""
from __future__ import annotations

import copy

import pytest
import torch

from mvp_mm.models.image_prefix import ImagePrefixes
from mvp_mm.models.state import InstructionBatch
from tests.helpers import CANVAS, build_model, make_samples, save_tokenizer

QUESTIONS = [
    ('PanopticTask', 0), ('ReferringSegmentationTask', 1), ('ReferringSegmentationTask', 2)]


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
    return save_tokenizer(tmp_path_factory.mktemp('tokenizer'))


@pytest.fixture(scope='module')
def model(tokenizer):
    return build_model(tokenizer, max_response_tokens=24).eval()


@pytest.fixture(scope='module')
def image():
    return torch.randn(1, 3, CANVAS, CANVAS, generator=torch.Generator().manual_seed(0))


def question(task, seed, tokenizer):
    samples = make_samples(task, tokenizer, seed=seed, training=False)
    for sample in samples:
        sample.set_metainfo(dict(image_index=0))
    return samples


@torch.no_grad()
def encoded(model, image, samples):
    state = model.encode(image, samples)
    state.prefixes = ImagePrefixes()
    return state


@pytest.mark.parametrize('thinking', [False, True])
@pytest.mark.parametrize('task, seed', QUESTIONS)
def test_later_questions_are_answered_as_by_a_whole_run(model, image, tokenizer, task, seed,
                                                        thinking):
    state = encoded(model, image, question(task, seed, tokenizer))
    model.predict(None, question(task, 5, tokenizer), thinking=thinking, state=state)
    prefixes = len(state.prefixes.kept)
    again = model.predict(None, question(task, seed, tokenizer), thinking=thinking, state=state)
    assert len(state.prefixes.kept) == prefixes == 1
    whole = model.predict(image, question(task, seed, tokenizer), thinking=thinking)
    for ours, theirs in zip(again, whole, strict=True):
        assert ours.pred_caption == theirs.pred_caption
        for key in ('bboxes', 'scores'):
            torch.testing.assert_close(
                ours.pred_instances[key], theirs.pred_instances[key], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize('task, seed', QUESTIONS)
def test_hidden_states_behind_the_prefix_are_those_of_a_whole_run(model, image, tokenizer, task,
                                                                  seed):
    samples = question(task, seed, tokenizer)
    batch = InstructionBatch.collate(samples, image.device)
    state = encoded(model, image, samples)
    with torch.no_grad():
        behind, ours = model.forward_llm(state, batch)
        state.prefixes = None
        whole, theirs = model.forward_llm(state, batch)
    cut = whole.shape[1] - behind.shape[1]
    assert cut > state.visual_tokens.shape[1]
    torch.testing.assert_close(ours.text, theirs.text, rtol=1e-4, atol=1e-4)
    for row, length in enumerate(batch.mask.sum(1).tolist()):
        torch.testing.assert_close(
            behind[row, :length - cut], whole[row, cut:length], rtol=1e-4, atol=1e-4)


def test_the_llm_reads_the_image_once_per_task_text(model, image, tokenizer, monkeypatch):
    read, lengths = model.llm.read_prefix, []
    monkeypatch.setattr(model.llm, 'read_prefix', lambda embeds: lengths.append(
        embeds.shape[1]) or read(embeds))
    state = encoded(model, image, question('PanopticTask', 0, tokenizer))
    for task in ('PanopticTask', 'InstanceTask', 'PanopticTask', 'ReferringSegmentationTask'):
        model.predict(None, question(task, 0, tokenizer), thinking=False, state=state)
    kept = [cache.get_seq_length() for cache in state.prefixes.kept.values()]
    assert lengths == kept and len(kept) == 2


def test_a_kept_prefix_does_not_grow(model, image, tokenizer):
    samples = question('ReferringSegmentationTask', 0, tokenizer)
    state = encoded(model, image, samples)
    for thinking in (True, False):
        model.predict(None, copy.deepcopy(samples), thinking=thinking, state=state)
        cache, = state.prefixes.kept.values()
        assert [tuple(layer.keys.shape[::2]) for layer in cache.layers] == [
            (1, cache.get_seq_length())] * 2
        assert cache.get_seq_length() == int(samples[0].instruction.image_start) + 4


def test_rows_of_different_prefixes_are_run_whole(model, image, tokenizer):
    samples = question('PanopticTask', 0, tokenizer) + question(
        'ReferringSegmentationTask', 0, tokenizer)
    state = encoded(model, image, samples)
    answered = model.predict(None, samples, thinking=False, state=state)
    assert not state.prefixes.kept and len(answered) == len(samples)


def test_a_sliding_window_is_run_whole(image, tokenizer):
    sizes = dict(vocab_size=512, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                 num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=256,
                 model_type='mistral', sliding_window=8)
    model = build_model(tokenizer, llm=dict(
        shared_prefix=False, config=dict(_delete_=True, **sizes))).eval()
    state = encoded(model, image, question('ReferringSegmentationTask', 0, tokenizer))
    found = model.predict(None, question('ReferringSegmentationTask', 0, tokenizer),
                          thinking=False, state=state)
    whole = model.predict(image, question('ReferringSegmentationTask', 0, tokenizer),
                          thinking=False)
    for ours, theirs in zip(found, whole, strict=True):
        assert torch.equal(ours.pred_instances.bboxes, theirs.pred_instances.bboxes)
