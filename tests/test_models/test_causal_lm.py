# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import pytest
import torch
from transformers.generation.logits_process import TemperatureLogitsWarper, TopPLogitsWarper

from mvp_mm.models.llms.causal_lm import CausalLM
from mvp_mm.models.llms.sampling import Sampling, choose
from mvp_mm.models.packing import length_groups
from tests.test_models.llms import LENGTHS, MODELS, SIZES, make_prompts, small_llm


@pytest.fixture(scope='module', params=list(MODELS))
def llm(request):
    torch.manual_seed(0)
    return CausalLM({**SIZES, **MODELS[request.param], 'initializer_range': 0.3}).eval()


@pytest.fixture
def prompts():
    return make_prompts()


def ends(*tokens):
    """Endings of one token each."""
    return [[int(token)] for token in tokens]


def alone(prompts, row):
    embeds, mask = prompts
    return embeds[row:row + 1, :LENGTHS[row]], mask[row:row + 1, :LENGTHS[row]]


@torch.no_grad()
def plain_generate(llm, embeds, end, limit):
    """Greedy decoding of one prompt (1, T, D) without a cache, ``end`` forced at the limit."""
    tokens = []
    while True:
        hidden = llm.lm.get_decoder()(inputs_embeds=embeds, use_cache=False).last_hidden_state
        if tokens and tokens[-1] == end:
            return tokens, hidden[0, -1]
        token = int(llm.lm.get_output_embeddings()(hidden[0, -1]).argmax())
        tokens.append(end if len(tokens) == limit - 1 else token)
        embeds = torch.cat([embeds, llm.embed(torch.tensor([tokens[-1:]]))], 1)


@torch.no_grad()
def free_tokens(llm, embeds, count):
    """The first greedy tokens, whatever they are."""
    tokens = []
    for _ in range(count):
        hidden = llm.lm.get_decoder()(inputs_embeds=embeds, use_cache=False).last_hidden_state
        tokens.append(int(llm.lm.get_output_embeddings()(hidden[0, -1]).argmax()))
        embeds = torch.cat([embeds, llm.embed(torch.tensor([tokens[-1:]]))], 1)
    return tokens


def test_hidden_states_are_those_of_transformers(llm, prompts):
    embeds, mask = prompts
    states, = llm(embeds, mask)
    for row, n in enumerate(LENGTHS):
        out = llm.lm.get_decoder()(inputs_embeds=embeds[row:row + 1, :n], use_cache=False)
        torch.testing.assert_close(
            states[row:row + 1, :n], out.last_hidden_state, atol=1e-5, rtol=1e-4)


def test_logits_are_those_of_transformers(llm):
    ids = torch.randint(0, 60, (2, 6))
    states, = llm(llm.embed(ids), torch.ones(2, 6, dtype=torch.bool))
    torch.testing.assert_close(llm.logits(states), llm.lm(ids).logits, atol=1e-4, rtol=1e-4)


def test_generation_equals_a_loop_without_cache(llm, prompts):
    limit = 7
    free = [free_tokens(llm, alone(prompts, r)[0], limit) for r in range(3)]
    # The first row ends by itself with its fourth token at the latest, the others when they may.
    end = torch.tensor([free[0][3], 1, free[2][1]])
    written = llm.generate(*prompts, ends(*end), limit)
    for row in range(3):
        tokens, summary = plain_generate(llm, alone(prompts, row)[0], int(end[row]), limit)
        assert [t for t in written.tokens[row].tolist() if t >= 0] == tokens
        torch.testing.assert_close(written.summary[row], summary, atol=1e-4, rtol=1e-4)
    assert len(set((written.tokens >= 0).sum(1).tolist())) > 1


def test_a_batch_writes_what_its_rows_write_alone(llm, prompts):
    end = ends(1, 2, 3)
    together = llm.generate(*prompts, end, 5)
    for row, n in enumerate(LENGTHS):
        single = llm.generate(*alone(prompts, row), end[row:row + 1], 5)
        length = single.tokens.shape[1]
        assert together.tokens[row, :length].tolist() == single.tokens[0].tolist()
        assert (together.tokens[row, length:] == -1).all()
        torch.testing.assert_close(together.summary[row], single.summary[0],
                                   atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.prompt_states[0][row, :n],
                                   single.prompt_states[0][0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('limit', [1, 4])
def test_the_last_token_is_forced_at_the_limit(llm, prompts, limit):
    greedy = {t for r in range(3) for t in free_tokens(llm, alone(prompts, r)[0], 6)}
    end = next(t for t in range(60) if t not in greedy)
    written = llm.generate(*prompts, ends(end, end, end), limit)
    assert written.tokens.shape == (3, limit)
    assert (written.tokens[:, -1] == end).all()
    assert not (written.tokens[:, :-1] == end).any()
    assert (written.summary.abs().sum(1) > 0).all()


def test_prompt_states_are_those_of_a_plain_forward(llm, prompts):
    written = llm.generate(*prompts, ends(1, 1, 1), 3)
    plain, = llm(*prompts)
    mask = prompts[1]
    torch.testing.assert_close(written.prompt_states[0][mask], plain[mask], atol=1e-5, rtol=1e-4)


def test_kept_layers_name_embedding_and_final_norm(llm, prompts):
    embeds, mask = prompts
    kept = CausalLM({**SIZES, **MODELS[llm.lm.config.model_type]}, kept_layers=(0, 1, -1)).eval()
    first, middle, last = kept(embeds, mask)
    torch.testing.assert_close(first[mask], embeds[mask])
    out = kept.lm.get_decoder()(inputs_embeds=embeds, attention_mask=mask.long(),
                                output_hidden_states=True)
    torch.testing.assert_close(middle[mask], out.hidden_states[1][mask])
    torch.testing.assert_close(last[mask], out.last_hidden_state[mask])


@pytest.mark.parametrize('family', list(MODELS))
def test_checkpointing_keeps_the_gradients(prompts, family):
    grads = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        llm = CausalLM({**SIZES, **MODELS[family]}, gradient_checkpointing=checkpointing).train()
        states, = llm(*prompts)
        states[prompts[1]].square().sum().backward()
        grads.append([p.grad for p in llm.lm.get_decoder().layers.parameters()])
    for plain, recomputed in zip(*grads, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_frozen_weights_ask_for_no_gradient():
    llm = CausalLM({**SIZES, **MODELS['llama']}, frozen=True)
    assert not any(p.requires_grad for p in llm.parameters())


def test_a_source_of_weights_is_needed():
    with pytest.raises(ValueError, match='needs config or pretrained'):
        CausalLM()


def test_pretrained_weights_are_read_from_a_folder(tmp_path):
    saved = CausalLM({**SIZES, **MODELS['qwen2']})
    saved.lm.save_pretrained(tmp_path)
    # The folder's sizes count, whatever else the config names.
    loaded = CausalLM({**SIZES, **MODELS['phi'], 'hidden_size': 64}, pretrained=str(tmp_path))
    assert (loaded.hidden_size, loaded.vocab_size, loaded.max_length) == (32, 60, 64)
    for ours, theirs in zip(loaded.parameters(), saved.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_sequences_split_by_length_where_it_saves_padding():
    assert length_groups([9, 3, 10, 3]) == [([1, 3], 3), ([0, 2], 10)]
    assert length_groups([10, 9, 10]) == [([1, 0, 2], 10)]
    assert length_groups([7]) == [([0], 7)]


def test_split_by_length_gives_what_one_run_gives():
    torch.manual_seed(0)
    llm = CausalLM(dict(model_type='phi', vocab_size=50, hidden_size=16, intermediate_size=32,
                        num_hidden_layers=2, num_attention_heads=2), kept_layers=(0, -1)).eval()
    lengths = [12, 4, 5, 11, 3]
    mask = torch.arange(12) < torch.tensor(lengths)[:, None]
    embeds = torch.randn(5, 12, 16)
    assert len(length_groups(lengths)) == 2
    with torch.no_grad():
        found = llm(embeds, mask)
        for r, n in enumerate(lengths):
            alone = llm(embeds[r:r + 1, :n], mask[r:r + 1, :n])
            for state, expected in zip(found, alone, strict=True):
                torch.testing.assert_close(state[r, :n], expected[0], atol=1e-5, rtol=1e-5)


def left_padded(prompts):
    """The same prompts with their padding in front."""
    embeds, mask = (x.clone() for x in prompts)
    for row, n in enumerate(LENGTHS):
        embeds[row] = embeds[row].roll(-n, 0)
        mask[row] = mask[row].roll(-n, 0)
    return embeds, mask


def test_greedy_text_is_that_of_transformers(llm, prompts):
    embeds, mask = left_padded(prompts)
    theirs = llm.lm.generate(
        inputs_embeds=embeds, attention_mask=mask.long(), do_sample=False, max_new_tokens=6,
        eos_token_id=59, pad_token_id=58)
    for padded in (prompts, (embeds, mask)):
        ours = llm.generate(*padded, ends(59, 59, 59), 6)
        for found, expected in zip(ours.tokens.tolist(), theirs.tolist(), strict=True):
            found = [t for t in found if t >= 0]
            # Our last token is the forced one.
            assert found[:-1] == expected[:len(found) - 1] and len(found) > 1


def test_padding_in_front_changes_nothing(llm, prompts):
    end = ends(1, 2, 3)
    right, left = llm.generate(*prompts, end, 5), llm.generate(*left_padded(prompts), end, 5)
    assert torch.equal(right.tokens, left.tokens)
    torch.testing.assert_close(right.summary, left.summary, atol=1e-5, rtol=1e-5)
    for row, n in enumerate(LENGTHS):
        torch.testing.assert_close(right.prompt_states[0][row, :n],
                                   left.prompt_states[0][row, -n:], atol=1e-5, rtol=1e-5)
        assert (left.prompt_states[0][row, :-n] == 0).all() or n == max(LENGTHS)


def test_sampled_text_depends_on_seed_and_prompt_alone(prompts):
    end, ids = ends(1, 2, 3), [[4, 5], [6], [7, 8, 9]]
    drawn = {}
    for seed in (0, 1):
        llm = small_llm(sampling=dict(temperature=2.0, top_p=0.9, seed=seed))
        together = llm.generate(*prompts, end, 8, prompts=ids)
        drawn[seed] = together.tokens.tolist()
        for row in range(3):
            single = llm.generate(*alone(prompts, row), end[row:row + 1], 8,
                                  prompts=ids[row:row + 1])
            n = single.tokens.shape[1]
            assert together.tokens[row, :n].tolist() == single.tokens[0].tolist()
            torch.testing.assert_close(together.summary[row], single.summary[0],
                                       atol=1e-5, rtol=1e-5)
    assert drawn[0] != drawn[1]
    assert drawn[0] != small_llm().generate(*prompts, end, 8).tokens.tolist()


def test_samples_are_spread_as_transformers_warps_them():
    logits = torch.randn(1, 12) * 2
    sampling = Sampling(temperature=0.7, top_p=0.8)
    scores = TopPLogitsWarper(0.8)(None, TemperatureLogitsWarper(0.7)(None, logits))
    expected = scores.softmax(-1)[0]
    assert 1 < (expected > 0).sum() < 12
    noise = (torch.arange(20000) + 0.5) / 20000
    found = choose(logits.expand(20000, -1), sampling, noise).bincount(minlength=12) / 20000
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize('noise', [0.0, 1 - 2**-24])
def test_the_ends_of_the_noise_choose_a_kept_token(noise):
    logits = torch.randn(50, 200)
    chosen = choose(logits, Sampling(top_p=0.3), torch.full((50, ), noise))
    prob, order = logits.softmax(-1).sort(descending=True)
    kept = (prob.cumsum(-1) - prob < 0.3)
    assert all(chosen[r] in order[r][kept[r]] for r in range(50))


@pytest.mark.parametrize('sampling, message', [
    (dict(temperature=0.0), 'temperature must be positive'), (dict(top_p=0.0), r'in \(0, 1\]'),
    (dict(top_k=3), "'top_k'")])
def test_settings_of_sampling_are_checked(sampling, message):
    with pytest.raises((ValueError, TypeError), match=message):
        small_llm(sampling=sampling)


def test_sampling_needs_the_prompts_ids(prompts):
    with pytest.raises(ValueError, match='needs the token ids'):
        small_llm(sampling={}).generate(*prompts, ends(1, 2, 3), 4)


def test_ids_that_the_tokenizer_lacks_are_not_written(prompts):
    free = small_llm().generate(*prompts, ends(1, 2, 3), 8).tokens
    kept = small_llm().generate(*prompts, ends(1, 2, 3), 8, vocabulary=20).tokens
    assert free.max() >= 20 > kept.max()


def test_the_context_is_a_limit_too(prompts):
    llm = small_llm()
    llm.max_length = max(LENGTHS) + 2
    written = llm.generate(*prompts, ends(57, 58, 59), 8)
    assert (written.tokens >= 0).sum(1).tolist() == [6, 2, 8]
    llm.max_length = max(LENGTHS)
    with pytest.raises(ValueError, match='prompt of 9 tokens leaves no room .* context of 9'):
        llm.generate(*prompts, ends(1, 2, 3), 8)
