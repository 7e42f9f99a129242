# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mvp_mm.models.language import append_tokens, insert_visual_tokens, language_loss, pool_phrases
from mvp_mm.models.llms import CausalLM
from mvp_mm.models.losses import ImageShares, reduce_over_ranks
from mvp_mm.models.state import InstructionBatch
from tests.helpers import make_samples
from tests.test_models.parts import make_batch

SIZES = dict(model_type='llama', vocab_size=50, hidden_size=16, intermediate_size=32,
             num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=64)


def plain_pool(states, phrase_index, num_phrases):
    found = torch.zeros(len(states), num_phrases, states.shape[-1])
    for r in range(len(states)):
        for k in range(num_phrases):
            tokens = [states[r, t] for t in range(states.shape[1]) if phrase_index[r, t] == k]
            if tokens:
                found[r, k] = sum(tokens) / len(tokens)
    return found


def test_pool_phrases_averages_each_phrase():
    states = torch.randn(3, 9, 4)
    phrase_index = torch.randint(-1, 4, (3, 9))
    phrase_index[1] = -1
    found = pool_phrases([states], phrase_index, 4)
    torch.testing.assert_close(found, plain_pool(states, phrase_index, 4))
    assert (found[1] == 0).all()


def test_pool_phrases_averages_normalised_layers():
    layers = [torch.randn(2, 6, 8) * scale for scale in (1.0, 50.0)]
    phrase_index = torch.randint(-1, 3, (2, 6))
    normed = []
    for layer in layers:
        deviation = layer.var(-1, unbiased=False, keepdim=True).add(1e-5).sqrt()
        normed.append((layer - layer.mean(-1, keepdim=True)) / deviation)
    expected = plain_pool((normed[0] + normed[1]) / 2, phrase_index, 3)
    torch.testing.assert_close(pool_phrases(layers, phrase_index, 3), expected)


def test_visual_tokens_replace_the_placeholders_only():
    embeds, visual = torch.randn(4, 8, 3), torch.randn(2, 3, 3)
    batch = replace(make_batch(['word'] * 4, [1] * 4, image_index=[1, 0, 1, 0]),
                    image_start=torch.tensor([0, 5, 2, -1]))
    expected = embeds.clone()
    for r, start in enumerate([0, 5, 2]):
        for v in range(3):
            expected[r, start + v] = visual[batch.image_index[r], v]
    torch.testing.assert_close(
        insert_visual_tokens(embeds, visual, batch), expected, rtol=0, atol=0)


def test_gradients_reach_the_visual_tokens_once_a_row():
    visual = torch.randn(2, 3, 3, requires_grad=True)
    batch = replace(make_batch(['word'] * 3, [1] * 3, image_index=[1, 1, 1]),
                    image_start=torch.tensor([0, 2, -1]))
    insert_visual_tokens(torch.randn(3, 6, 3), visual, batch).sum().backward()
    assert (visual.grad[0] == 0).all() and (visual.grad[1] == 2).all()


@pytest.fixture(scope='module')
def llm():
    torch.manual_seed(0)
    return CausalLM(SIZES)


def test_language_loss_is_next_token_cross_entropy_of_the_response(llm):
    hidden = torch.randn(3, 7, 16, requires_grad=True)
    labels = torch.randint(0, 50, (3, 7))
    labels[:, :3] = -100
    labels[1, 5:] = -100
    logits = llm.logits(hidden)
    expected = F.cross_entropy(
        logits[:, :-1].reshape(-1, 50), labels[:, 1:].reshape(-1), ignore_index=-100)
    total, count = language_loss(llm, hidden, labels, None)
    found = total / count
    torch.testing.assert_close(found, expected)
    ours, = torch.autograd.grad(found, hidden)
    reference, = torch.autograd.grad(expected, hidden)
    torch.testing.assert_close(ours, reference)


@pytest.mark.parametrize(('average', 'weight'), [
    ('instructions', [1 / 3] * 3), ('images', [1 / 4, 1 / 4, 1 / 2])])
def test_instructions_or_images_can_count_the_same(llm, average, weight):
    hidden = torch.randn(3, 6, 16)
    labels = torch.full((3, 6), -100)
    labels[0, 2:], labels[1, 5:], labels[2, 3:] = 7, 8, 9
    shares = ImageShares.of(torch.tensor([1, 1, 0]), 2)
    rows = [language_loss(llm, hidden[r:r + 1], labels[r:r + 1], None) for r in range(3)]
    expected = sum(w * row.total / row.count for w, row in zip(weight, rows, strict=True))
    llm.loss_average = average
    try:
        total, count = language_loss(llm, hidden, labels, shares)
    finally:
        llm.loss_average = 'tokens'
    torch.testing.assert_close(total / count, expected)


def test_language_loss_without_supervision_is_zero_with_gradients(llm):
    hidden = torch.randn(2, 4, 16, requires_grad=True)
    mean = language_loss(llm, hidden, torch.full((2, 4), -100), None)
    loss = reduce_over_ranks(dict(loss_llm=mean))['loss_llm']
    loss.backward()
    assert loss.item() == 0 and (hidden.grad == 0).all()


def test_append_tokens_writes_behind_the_last_real_token(tokenizer_path):
    samples = [*make_samples('PanopticTask', tokenizer_path),
               *make_samples('ReferringSegmentationTask', tokenizer_path)[:1]]
    for sample in samples:
        sample.set_metainfo(dict(image_index=0))
    batch = InstructionBatch.collate(samples, torch.device('cpu'))
    grown = append_tokens(batch, [7, 8, 9])
    lengths = batch.mask.sum(1).tolist()
    assert lengths[0] != lengths[1]
    for r, n in enumerate(lengths):
        assert grown.ids[r, :n + 3].tolist() == [*batch.ids[r, :n].tolist(), 7, 8, 9]
        assert grown.mask[r].tolist() == [True] * (n + 3) + [False] * (max(lengths) - n)
        assert grown.phrase_index[r, :n].tolist() == batch.phrase_index[r, :n].tolist()
        assert (grown.phrase_index[r, n:] == -1).all()
    assert (grown.labels == -100).all() == (batch.labels == -100).all()
    assert grown.per_position.tolist() == [n + 2 for n in lengths]
    assert torch.equal(grown.phrase_mask, batch.phrase_mask)
