# Copyright (c) mvp_mm authors. All rights reserved.
"""The first layers of a language model in place of all."""
from __future__ import annotations

import pytest
import torch

from mvp_mm.models.llms import CausalLM
from mvp_mm.models.llms.building import without_weights
from tests.test_models.llms import MODELS, SIZES, make_prompts, rewrite, small_llm, without


@pytest.fixture
def prompts():
    return make_prompts()


@pytest.mark.parametrize('family', ['phi', 'qwen3'])
def test_the_first_layers_of_a_folder_give_its_states(tmp_path, prompts, family):
    whole = CausalLM({**SIZES, **MODELS[family]}, kept_layers=(1,)).eval()
    whole.lm.save_pretrained(tmp_path)
    llm = CausalLM(pretrained=str(tmp_path), num_layers=1).eval()
    assert len(llm.lm.get_decoder().layers) == llm.lm.config.num_hidden_layers == 1
    decoder = whole.lm.get_decoder()
    norm = decoder.norm if family == 'qwen3' else decoder.final_layernorm
    embeds, mask = prompts
    torch.testing.assert_close(llm(embeds, mask)[0][mask], norm(whole(embeds, mask)[0])[mask])


def test_a_cut_model_without_weights_has_the_layout_of_its_folder(tmp_path):
    small_llm().lm.save_pretrained(tmp_path)
    llm = dict(pretrained=str(tmp_path), num_layers=1)
    assert (set(CausalLM(**without_weights(llm)).state_dict())
            == set(CausalLM(**llm).state_dict()) != set(small_llm().state_dict()))


def test_a_cut_model_writes_what_it_reads(prompts):
    llm = small_llm(num_layers=1).eval()
    embeds, _ = prompts
    cache = llm.read_prefix(embeds[:1, :2])
    behind = llm(embeds[:1, 2:], torch.ones(1, embeds.shape[1] - 2, dtype=torch.bool),
                 prefix=cache)[0]
    whole = llm(embeds[:1], torch.ones(1, embeds.shape[1], dtype=torch.bool))[0]
    torch.testing.assert_close(behind, whole[:, 2:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('number', [0, 3])
def test_a_number_of_layers_that_the_model_lacks_is_refused(tmp_path, number):
    message = f'llm.num_layers must be 1 to 2, .* phi model, got {number}'
    small_llm().lm.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        small_llm(num_layers=number)
    with pytest.raises(ValueError, match=message):
        CausalLM(pretrained=str(tmp_path), num_layers=number)


def test_a_folder_that_lacks_a_layer_is_refused_though_the_layer_is_cut(tmp_path):
    small_llm().lm.save_pretrained(tmp_path)
    rewrite(tmp_path, without('layers.1.'))
    with pytest.raises(ValueError, match='lacks .* weights'):
        CausalLM(pretrained=str(tmp_path), num_layers=1)
