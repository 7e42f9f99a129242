# Copyright (c) mvp_mm authors. All rights reserved.
import pytest
import torch

from mvp_mm.models.llms.causal_lm import CausalLM, length_groups

SIZES = dict(vocab_size=60, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
             num_attention_heads=4, max_position_embeddings=64)
MODELS = dict(
    phi=dict(model_type='phi', partial_rotary_factor=0.5, hidden_act='gelu_pytorch_tanh'),
    llama=dict(model_type='llama', num_key_value_heads=2),
    qwen2=dict(model_type='qwen2', num_key_value_heads=2))
LENGTHS = (5, 9, 3)


@pytest.fixture(scope='module', params=list(MODELS))
def llm(request):
    torch.manual_seed(0)
    return CausalLM({**SIZES, **MODELS[request.param], 'initializer_range': 0.3}).eval()


@pytest.fixture
def prompts():
    """Embeddings (3, 9, 32) and mask of prompts of different lengths; the padding is noise."""
    mask = torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]
    return torch.randn(len(LENGTHS), max(LENGTHS), 32), mask


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
    written = llm.generate(*prompts, end, limit)
    for row in range(3):
        tokens, summary = plain_generate(llm, alone(prompts, row)[0], int(end[row]), limit)
        assert [t for t in written.tokens[row].tolist() if t >= 0] == tokens
        torch.testing.assert_close(written.summary[row], summary, atol=1e-4, rtol=1e-4)
    assert len(set((written.tokens >= 0).sum(1).tolist())) > 1


def test_a_batch_writes_what_its_rows_write_alone(llm, prompts):
    end = torch.tensor([1, 2, 3])
    together = llm.generate(*prompts, end, 5)
    for row, n in enumerate(LENGTHS):
        single = llm.generate(*alone(prompts, row), end[row:row + 1], 5)
        length = single.tokens.shape[1]
        assert together.tokens[row, :length].tolist() == single.tokens[0].tolist()
        assert (together.tokens[row, length:] == -1).all()
        torch.testing.assert_close(together.summary[row], single.summary[0],
                                   atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(together.prompt_states[0][row, :n],
                                   single.prompt_states[0][0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('limit', [1, 4])
def test_the_last_token_is_forced_at_the_limit(llm, prompts, limit):
    greedy = {t for r in range(3) for t in free_tokens(llm, alone(prompts, r)[0], 6)}
    end = next(t for t in range(60) if t not in greedy)
    written = llm.generate(*prompts, torch.tensor([end] * 3), limit)
    assert written.tokens.shape == (3, limit)
    assert (written.tokens[:, -1] == end).all()
    assert not (written.tokens[:, :-1] == end).any()
    assert (written.summary.abs().sum(1) > 0).all()


def test_prompt_states_are_those_of_a_plain_forward(llm, prompts):
    written = llm.generate(*prompts, torch.tensor([1, 1, 1]), 3)
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


def test_checkpointing_keeps_the_gradients(prompts):
    grads = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        llm = CausalLM({**SIZES, **MODELS['phi']}, gradient_checkpointing=checkpointing).train()
        states, = llm(*prompts)
        states[prompts[1]].square().sum().backward()
        grads.append([p.grad for p in llm.lm.get_decoder().layers.parameters()])
    for plain, recomputed in zip(*grads, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_frozen_weights_ask_for_no_gradient():
    llm = CausalLM({**SIZES, **MODELS['llama']}, frozen=True)
    assert not any(p.requires_grad for p in llm.parameters())


@pytest.mark.parametrize('args', [
    {}, dict(config=dict(model_type='phi'), pretrained='somewhere')])
def test_exactly_one_source_of_weights_is_needed(args):
    with pytest.raises(ValueError, match='exactly one of config and pretrained'):
        CausalLM(**args)


def test_pretrained_weights_are_read_from_a_folder(tmp_path):
    saved = CausalLM({**SIZES, **MODELS['qwen2']})
    saved.lm.save_pretrained(tmp_path)
    loaded = CausalLM(pretrained=str(tmp_path))
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
