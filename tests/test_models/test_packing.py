# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from mvp_mm.models.llms import CausalLM
from mvp_mm.models.packing import PackedRows, RowLayout, balanced_bins, visible
from tests.helpers import build_model, make_batch, make_samples
from tests.test_models.llms import MODELS, SIZES

# Rows 0, 1 and 3 ask about image 0 after the same five tokens, row 2 about image 1.
LENGTHS = [9, 7, 8, 12]
START, IMAGES = [2, 2, 2, 2], [0, 0, 1, 0]


def make_ids():
    ids = np.random.default_rng(0).integers(10, 50, (4, 12))
    ids[:, :5] = ids[0, :5]
    ids[:, 5] = [1, 2, 3, 4]
    return ids


def same(a, b):
    """Whether gradients differ by no more than 1e-5 of their norm; some are rounding alone."""
    return (a - b).norm() <= 1e-5 * b.norm() + 3e-6


def find(**changes):
    return RowLayout.find(**{**dict(
        ids=make_ids(), lengths=LENGTHS, image_start=START, image_index=IMAGES), **changes})


def test_rows_about_one_image_share_the_tokens_that_they_begin_with():
    assert find().sharing == [([0, 1, 3], 5), ([2], 0)]


def test_rows_with_another_task_text_share_nothing():
    ids = make_ids()
    ids[1, 0] = 60
    assert find(ids=ids).sharing == [([0, 3], 5), ([1], 0), ([2], 0)]


def test_rows_without_an_image_share_nothing():
    assert find(image_start=[-1] * 4).sharing == [([r], 0) for r in range(4)]


def test_a_row_that_is_the_beginning_of_another_is_its_prefix():
    ids = make_ids()
    ids[1, :9] = ids[0, :9]
    assert find(ids=ids, image_index=[0, 0, 1, 2]).sharing == [([0, 1], 7), ([2], 0), ([3], 0)]


def test_every_token_has_a_place_and_the_prefix_only_one():
    packed = PackedRows.of(find(), 12)
    assert packed.lengths == [5 + 4 + 2 + 7, 8]
    for row, length in enumerate(LENGTHS):
        place = packed.place[row, :length]
        expected = row * 12 + np.arange(length)
        if row in (1, 3):
            expected[:5] = np.arange(5)
        assert (packed.source.flat[place] == expected).all()
        assert (packed.positions.flat[place] == np.arange(length)).all()


def test_a_token_sees_the_prefix_and_what_is_before_it_in_its_row():
    packed = PackedRows.of(find(), 12)
    seen = visible(*map(torch.from_numpy, (packed.segment, packed.block)))[0, 0]
    place = torch.from_numpy(packed.place)
    assert seen[place[3, 7]].nonzero()[:, 0].tolist() == sorted(place[3, :8].tolist())


def test_bins_leave_the_least_room_and_are_as_many_as_that_allows():
    assert balanced_bins([7, 3, 9, 2, 4]) == [[2], [0, 3], [4, 1]]
    assert balanced_bins([5, 5, 5, 5]) == [[0], [1], [2], [3]]
    assert balanced_bins([8]) == [[0]]


def test_joined_blocks_do_not_see_each_other():
    layout = RowLayout.separate([4, 9, 3, 2])
    packed = PackedRows.of(layout, 9, joined=True)
    assert packed.lengths == [9, 9]
    seen = visible(*map(torch.from_numpy, (packed.segment, packed.block)))[:, 0]
    place = torch.from_numpy(packed.place)
    for row, length in enumerate(layout.lengths):
        sequence, last = divmod(int(place[row, length - 1]), 9)
        within = seen[sequence, last].nonzero()[:, 0] + 9 * sequence
        assert within.tolist() == place[row, :length].tolist()
        assert packed.positions.flat[packed.place[row, :length]].tolist() == list(range(length))


@pytest.mark.parametrize('layout', [
    dict(split_by_length=True), dict(split_by_length=False), dict(sequence_packing=True)],
    ids=['by length', 'padded', 'packed'])
@pytest.mark.parametrize('family', MODELS)
def test_states_and_gradients_behind_a_shared_prefix_are_those_of_separate_rows(family, layout):
    ids = torch.from_numpy(make_ids())
    mask = torch.arange(12)[None] < torch.tensor(LENGTHS)[:, None]
    weight = torch.randn(4, 12, SIZES['hidden_size']) * mask[..., None]
    found = []
    for settings in (dict(layout, shared_prefix=True), {}):
        torch.manual_seed(0)
        llm = CausalLM({**SIZES, **MODELS[family]}, kept_layers=(1, -1), **settings,
                       gradient_checkpointing=True).train()
        embeds = llm.embed(ids)
        states = llm(embeds, mask, find())
        (states[-1] * weight).sum().backward()
        gradients = {n: p.grad for n, p in llm.named_parameters() if p.grad is not None}
        found.append((gradients, [s[mask] for s in states]))
    (gradients, states), (separate, separate_states) = found
    torch.testing.assert_close(states, separate_states, rtol=1e-5, atol=1e-5)
    assert len(gradients) > 10
    assert all(same(gradients[name], separate[name]) for name in separate)


def test_only_what_is_shared_runs_once():
    llm = CausalLM({**SIZES, **MODELS['phi']}, shared_prefix=True, split_by_length=False)
    ran = []
    llm.lm.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: ran.append(kwargs['inputs_embeds'].shape), with_kwargs=True)
    mask = torch.arange(12)[None] < torch.tensor(LENGTHS)[:, None]
    llm(torch.randn(4, 12, 32), mask, find())
    assert ran == [(2, 18, 32)]


def test_packed_rows_run_once_with_little_padding():
    llm = CausalLM({**SIZES, **MODELS['phi']}, sequence_packing=True)
    ran = []
    llm.lm.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: ran.append(kwargs['inputs_embeds'].shape), with_kwargs=True)
    lengths = torch.tensor([12, 5, 6, 4, 7])
    llm(torch.randn(5, 12, 32), torch.arange(12)[None] < lengths[:, None])
    assert ran == [(3, 12, 32)]


@pytest.mark.parametrize('setting', ['shared_prefix', 'sequence_packing'])
@pytest.mark.parametrize(('sizes', 'attention', 'message'), [
    (dict(MODELS['phi']), 'eager', "needs attn_implementation='sdpa'"),
    (dict(model_type='mistral', num_key_value_heads=2, sliding_window=8), 'sdpa',
     'mistral attends within a window')])
def test_attention_that_no_block_mask_reaches_is_refused(
        sizes, attention, message, setting):
    with pytest.raises(ValueError, match=f'llm.{setting}.*{message}'):
        CausalLM({**SIZES, **sizes}, attn_implementation=attention, **{setting: True})


@pytest.mark.parametrize('packing', [False, True])
def test_losses_and_gradients_of_the_whole_model_are_those_of_separate_rows(
        tokenizer_path, packing):
    sentences = make_samples('ReferringSegmentationTask', tokenizer_path, max_per_image=3)
    groups = [[*sentences, *make_samples('PanopticTask', tokenizer_path)],
              make_samples('ReferringSegmentationTask', tokenizer_path, seed=1)]
    found = []
    for settings in (dict(shared_prefix=True, sequence_packing=packing), {}):
        model = build_model(tokenizer_path, llm=settings).train()
        torch.manual_seed(1)
        losses = model(**model.data_preprocessor(copy.deepcopy(make_batch(groups)), True),
                       mode='loss')
        model.parse_losses(losses)[0].backward()
        found.append((losses, {n: p.grad for n, p in model.named_parameters()}))
    (losses, gradients), (separate, separate_gradients) = found
    assert len(sentences) > 1
    for name, value in separate.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-5, atol=1e-5, msg=name)
    assert all(same(gradients[name], value) for name, value in separate_gradients.items())
