# Copyright (c) mvp_mm authors. All rights reserved.
"""Which language models are taken, which are refused, and what of them trains."""
import pytest
import torch

from mvp_mm.models.llms import CausalLM, building
from mvp_mm.models.llms.building import decoder_layers
from tests.test_models.llms import MODELS, SIZES, make_prompts, small_llm


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
