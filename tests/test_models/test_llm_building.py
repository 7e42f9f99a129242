# Copyright (c) mvp_mm authors. All rights reserved.
"""Which language models are taken, which are refused, and what of them trains."""
from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from mmengine.logging import MMLogger
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from transformers.activations import NewGELUActivation

from mvp_mm.models.llms import CausalLM, building
from mvp_mm.models.llms.building import decoder_layers, without_mask, without_weights
from tests.test_models.llms import MODELS, SIZES, make_prompts, rewrite, small_llm, without


@pytest.fixture
def prompts():
    return make_prompts()


@pytest.mark.parametrize('family, message', [
    ('phy', "no causal language model of model_type 'phy'; did you mean 'phi"),
    ('t5', "model_type 't5'"), ('bert', "'bert' cannot be used: .* it has an encoder"),
    ('mamba', "'mamba' cannot be used: .* config has no max_position_embeddings")])
def test_families_that_do_not_fit_are_refused(family, message):
    with pytest.raises(ValueError, match=message):
        CausalLM(dict(model_type=family))


@pytest.mark.parametrize('family', ['gpt2', 'gpt_neox', 'opt', 'mistral'])
def test_other_decoder_only_families_are_taken(family, prompts):
    llm = CausalLM({**SIZES, 'model_type': family, 'bos_token_id': 0, 'eos_token_id': 0,
                    'pad_token_id': None, 'num_key_value_heads': 2}).eval()
    assert len(decoder_layers(llm.lm)) == 2
    assert llm(*prompts)[0].shape == prompts[0].shape


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='llm.pretrained: .*gone'):
        CausalLM(pretrained=str(tmp_path / 'gone'))


def test_the_layout_of_a_folder_follows_the_folder(tmp_path):
    small_llm().lm.save_pretrained(tmp_path)
    llm = dict(pretrained=str(tmp_path), lora=None,
               config=dict(model_type='llama', hidden_size=64, num_attention_heads=2))
    layout = without_weights(llm)
    assert layout['pretrained'] is None and llm['pretrained'] == str(tmp_path)
    built, read = CausalLM(**layout).lm, CausalLM(**llm).lm
    assert read.config.model_type == 'phi'
    assert {name: value.shape for name, value in built.state_dict().items()} == {
        name: value.shape for name, value in read.state_dict().items()}


def test_weights_that_are_not_finite_are_refused(tmp_path):
    saved = small_llm()
    saved.lm.model.layers[1].mlp.fc1.weight.data[0, 0] = float('nan')
    saved.lm.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r'layers\.1\.mlp\.fc1\.weight holds values that are not'):
        CausalLM(pretrained=str(tmp_path))


def test_weights_stored_in_half_precision_train_in_float32(tmp_path):
    saved = small_llm()
    saved.lm.half().save_pretrained(tmp_path)
    llm = CausalLM(pretrained=str(tmp_path))
    for name, value in llm.lm.named_parameters():
        assert value.dtype == torch.float32
        assert torch.equal(value, saved.lm.get_parameter(name).float())


@pytest.mark.parametrize('part', [
    'layers.', 'final_layernorm.weight', 'layers.1.mlp.fc2.bias', 'lm_head.weight'])
def test_folders_without_all_weights_are_refused(tmp_path, part):
    small_llm().lm.save_pretrained(tmp_path)
    rewrite(tmp_path, without(part))
    with pytest.raises(ValueError, match=f'{tmp_path} lacks .* weights of its phi model, the first'
                       f' is .*{part}'):
        CausalLM(pretrained=str(tmp_path))


def test_a_fused_layout_names_its_converter(tmp_path):
    small_llm().lm.save_pretrained(tmp_path)

    def fuse(state):
        for kind in ('weight', 'bias'):
            parts = [state.pop(f'model.layers.0.self_attn.{p}_proj.{kind}') for p in 'qkv']
            state[f'model.layers.0.self_attn.query_key_value.{kind}'] = torch.cat(parts)

    rewrite(tmp_path, fuse)
    with pytest.raises(ValueError, match=r'lacks 6 weights .*query_key_value.bias: a fused layout, '
                       'which tools/model_converters/convert_phi.py takes apart'):
        CausalLM(pretrained=str(tmp_path))


def test_an_output_bias_that_is_missing_is_zero_and_said(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'warning', said.append)
    saved = small_llm()
    saved.lm.lm_head.bias.data.fill_(1.0)
    saved.lm.save_pretrained(tmp_path)
    rewrite(tmp_path, without('lm_head.bias'))
    assert (CausalLM(pretrained=str(tmp_path)).lm.lm_head.bias == 0).all()
    assert said == [f'{tmp_path} holds no lm_head.bias: it is zero']


def test_tensors_that_the_model_lacks_are_said(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'warning', said.append)
    small_llm().lm.save_pretrained(tmp_path)
    rewrite(tmp_path, lambda state: state.update({'vision.weight': torch.zeros(2)}))
    CausalLM(pretrained=str(tmp_path))
    assert said == [f'{tmp_path}: 1 tensors are not used, the first is vision.weight']


def test_tied_output_layers_need_no_weights_of_their_own(tmp_path):
    saved = CausalLM({**SIZES, **MODELS['qwen2'], 'tie_word_embeddings': True})
    saved.lm.save_pretrained(tmp_path)
    assert not any('lm_head' in key for key in load_file(tmp_path / 'model.safetensors'))
    lm = CausalLM(pretrained=str(tmp_path)).lm
    assert torch.equal(lm.get_output_embeddings().weight, saved.lm.get_input_embeddings().weight)


def test_a_damaged_weight_file_is_named(tmp_path):
    small_llm().lm.save_pretrained(tmp_path)
    file = tmp_path / 'model.safetensors'
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ValueError, match=f'{tmp_path}: a weight file cannot be read'):
        CausalLM(pretrained=str(tmp_path))


def test_gelu_new_is_replaced_by_the_same_function_in_one_operation(tmp_path, prompts):
    saved = CausalLM({**SIZES, **MODELS['phi'], 'hidden_act': 'gelu_new', 'initializer_range': 0.3})
    saved.lm.save_pretrained(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert any(isinstance(m, NewGELUActivation) for m in plain.modules())
    for llm in (saved.eval(), CausalLM(pretrained=str(tmp_path)).eval()):
        assert not any(isinstance(m, NewGELUActivation) for m in llm.modules())
        embeds, mask = prompts
        expected = plain.get_decoder()(inputs_embeds=embeds).last_hidden_state
        torch.testing.assert_close(
            llm(embeds, mask)[0][mask], expected[mask], atol=1e-5, rtol=1e-4)


def test_a_new_token_starts_at_the_mean_of_the_others():
    llm = small_llm()
    head, embeddings = llm.lm.lm_head, llm.lm.get_input_embeddings()
    head.bias.data.normal_()
    before = [x.detach().clone() for x in (embeddings.weight, head.weight, head.bias)]
    llm.start_at_mean(4, 50)
    for value, old in zip((embeddings.weight, head.weight, head.bias), before, strict=True):
        torch.testing.assert_close(value[4], torch.cat([old[:4], old[5:50]]).mean(0))
        kept = [i for i in range(60) if i != 4]
        assert torch.equal(value[kept], old[kept])


@pytest.mark.parametrize('cuda, message', [(False, 'needs a GPU; use sdpa'),
                                           (True, 'needs the package flash-attn')])
def test_flash_attention_is_refused_where_it_cannot_run(monkeypatch, cuda, message):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: cuda)
    monkeypatch.setattr(building, 'is_flash_attn_2_available', lambda: False)
    with pytest.raises(ValueError, match=message):
        small_llm(attn_implementation='flash_attention_2')


def test_a_frozen_llm_stays_in_eval_mode_and_lets_gradients_pass(prompts):
    llm = CausalLM({**SIZES, **MODELS['phi'], 'resid_pdrop': 0.5}, frozen=True).train()
    embeds = prompts[0].clone().requires_grad_(True)
    first, = llm(embeds, prompts[1])
    second, = llm(embeds, prompts[1])
    assert torch.equal(first, second) and not llm.lm.training
    first.sum().backward()
    assert embeds.grad.abs().sum() > 0 and all(p.grad is None for p in llm.parameters())


def test_embeddings_may_train_beside_a_frozen_llm():
    llm = CausalLM({**SIZES, **MODELS['llama']}, frozen=True, train_embeddings=True)
    assert {n for n, p in llm.named_parameters() if p.requires_grad} == {
        'lm.model.embed_tokens.weight', 'lm.lm_head.weight'}


@pytest.mark.parametrize('args', [dict(frozen=True, lora=dict(r=2, alpha=4)),
                                  dict(train_embeddings=True)])
def test_settings_that_contradict_are_refused(args):
    with pytest.raises(ValueError, match='choose one|needs frozen or lora'):
        small_llm(**args)


@pytest.mark.parametrize('targets', ['all-linear', ['q_proj', 'v_proj']])
def test_adapters_alone_train_and_start_as_nothing(prompts, targets):
    llm = small_llm(lora=dict(r=2, alpha=4, dropout=0.0, target_modules=targets))
    llm.init_weights()
    torch.testing.assert_close(llm(*prompts), small_llm()(*prompts))
    trained = {n for n, p in llm.named_parameters() if p.requires_grad}
    assert trained and all('.lora_' in name for name in trained)
    llm(*prompts)[0].square().sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in llm.parameters())


def test_adapters_on_layers_that_do_not_exist_are_refused():
    with pytest.raises(ValueError):
        small_llm(lora=dict(r=2, alpha=4, target_modules=['nowhere']))


def test_weights_are_not_drawn_again_when_a_run_starts():
    llm = small_llm()
    # As a layer looks that was put in afterwards.
    llm.lm.model.layers[0].mlp.fc1 = torch.nn.Linear(32, 64)
    before = {name: value.clone() for name, value in llm.state_dict().items()}
    llm.init_weights()
    assert all(torch.equal(value, before[name]) for name, value in llm.state_dict().items())


def test_right_padding_needs_no_mask(monkeypatch, prompts):
    llm, seen = small_llm(), []
    decoder = llm.lm.get_decoder()
    decoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs['attention_mask']), with_kwargs=True)
    embeds, mask = prompts
    found, = llm(embeds, mask)
    assert seen == [None] * len(seen) and seen
    masked = decoder(inputs_embeds=embeds, attention_mask=mask.long()).last_hidden_state
    torch.testing.assert_close(found[mask], masked[mask], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize('family', ['phi', 'llama', 'mistral'])
def test_whole_sequences_need_no_mask(family, prompts):
    llm = CausalLM({**SIZES, 'model_type': family, 'num_key_value_heads': 2,
                    'sliding_window': 3}).eval()
    found, expected = llm.run_causal(prompts[0]), llm.run(prompts[0])
    torch.testing.assert_close(found.last_hidden_state, expected.last_hidden_state)


def test_a_sliding_window_keeps_its_mask():
    decoder = CausalLM({**SIZES, 'model_type': 'mistral', 'num_key_value_heads': 2,
                        'sliding_window': 3}).lm.get_decoder()
    assert without_mask(decoder, recorded=False) is decoder


def test_states_of_layers_are_recorded_once_in_every_pass(prompts):
    llm = small_llm(kept_layers=(0, 1, -1)).eval()
    expected = llm.run(prompts[0]).hidden_states
    for _ in range(3):
        found = llm.run_causal(prompts[0]).hidden_states
        assert len(found) == len(expected)
        torch.testing.assert_close(found, expected)


def test_other_threads_keep_their_mask_while_one_needs_none(prompts):
    llm = small_llm().eval()
    embeds, mask = prompts
    expected = llm.run(embeds, mask).last_hidden_state
    started, finish = threading.Event(), threading.Event()

    def hold(*_):
        if threading.current_thread() is not threading.main_thread():
            started.set()
            finish.wait(10)

    llm.lm.get_decoder().layers[0].register_forward_pre_hook(hold)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(llm.run_causal, embeds)
        assert started.wait(10)
        found = llm.run(embeds, mask).last_hidden_state
        finish.set()
        running.result()
    torch.testing.assert_close(found, expected, atol=0, rtol=0)
