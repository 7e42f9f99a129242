# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

import mvp_mm.models  # noqa: F401  registers the components
from mvp_mm.converters import convert_layout
from mvp_mm.converters.phi import convert_phi, split_fused
from mvp_mm.models.llms import CausalLM
from mvp_mm.registry import MODELS
from tests.helpers import ROOT
from tests.test_converters.golden import load, needs_golden

SIZES = dict(model_type='phi', vocab_size=200, hidden_size=64, intermediate_size=128,
             num_hidden_layers=3, num_attention_heads=4, partial_rotary_factor=0.5,
             hidden_act='gelu_new', layer_norm_eps=1e-5, max_position_embeddings=128)


def test_fused_rows_are_heads_then_queries_keys_values():
    rows = torch.tensor([[head * 100 + part * 10 + i] for head in range(2) for part in range(3)
                         for i in range(2)])
    query, key, value = split_fused(rows, num_heads=2)
    assert query[:, 0].tolist() == [0, 1, 100, 101]
    assert key[:, 0].tolist() == [10, 11, 110, 111]
    assert value[:, 0].tolist() == [20, 21, 120, 121]


def test_rows_that_no_head_can_have_are_refused():
    with pytest.raises(ValueError, match='10 fused rows are no multiple of 3 × 2 heads'):
        split_fused(torch.zeros(10, 4), num_heads=2)


@needs_golden
def test_a_converted_phi_reproduces_the_recorded_states():
    recorded = load('G_llm_text')
    done = convert_phi(recorded['sd'], 4, prefix='lm.')
    assert {key.split('.')[0] for key in done.left} == {
        'SEG_token_projector', 'class_name_projector', 'region_projector'}
    llm = CausalLM(SIZES, kept_layers=(0, 1, 2, 3), attn_implementation='eager').eval()
    llm.load_state_dict(done.state)
    mask = recorded['in']['attention_mask'].bool()
    with torch.no_grad():
        states = llm(recorded['in']['inputs_embeds'], mask)
        logits = llm.logits(states[-1])
    for layer, found in enumerate(states):
        expected = recorded['out'][f'hidden_states.{layer}']
        torch.testing.assert_close(found[mask], expected[mask], rtol=0, atol=1e-5)
    torch.testing.assert_close(logits[mask], recorded['out']['logits'][mask], rtol=0, atol=1e-5)


def released_connector():
    recorded = load('F_connector')
    done, _ = convert_layout(recorded['sd'])
    connector = MODELS.build(
        dict(type='ConvConnector', in_channels=256, out_channels=64, planes=128))
    connector.load_state_dict({k.removeprefix('connector.'): v for k, v in done.state.items()})
    return connector, recorded


@needs_golden
@pytest.mark.parametrize('size', ['4x5', '8x10'])
def test_a_converted_connector_reproduces_the_recording(size):
    connector, recorded = released_connector()
    with torch.no_grad():
        found = connector.eval()(recorded['in'][f'res5_{size}'])
    torch.testing.assert_close(found, recorded['out'][f'eval_{size}'], rtol=0, atol=1e-5)


@needs_golden
def test_a_connector_in_training_uses_and_keeps_the_batch_statistics():
    connector, recorded = released_connector()
    found = connector.train()(recorded['in']['res5_8x10'])
    torch.testing.assert_close(found, recorded['out']['train_8x10'], rtol=0, atol=1e-5)
    after = 'train_8x10_bn_after.layer1.0.bn2.running_var'
    torch.testing.assert_close(connector.bn2.running_var, recorded['out'][after])


def fused_folder(folder, **changes):
    """A Phi in the old layout, and the model that it holds."""
    torch.manual_seed(0)
    sizes = dict(SIZES)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(sizes.pop('model_type'), **sizes))
    model.lm_head.bias.data.zero_()
    state = dict(model.state_dict())
    for layer in range(3):
        for name in ('weight', 'bias'):
            prefix = f'model.layers.{layer}.self_attn.'
            parts = [state.pop(f'{prefix}{part}_proj.{name}') for part in 'qkv']
            heads = torch.stack([part.unflatten(0, (4, -1)) for part in parts], 1)
            state[f'{prefix}query_key_value.{name}'] = heads.flatten(0, 2).contiguous()
    del state['lm_head.bias']
    folder.mkdir()
    save_file(state, folder / 'model.safetensors')
    (folder / 'config.json').write_text(json.dumps({**SIZES, **changes}))
    (folder / 'vocab.json').write_text('{}')
    return model.eval()


def run(*args):
    return subprocess.run(
        [sys.executable, 'tools/model_converters/convert_phi.py', *map(str, args)], cwd=ROOT,
        capture_output=True, text=True)


def test_a_fused_folder_becomes_one_that_transformers_reads(tmp_path):
    model = fused_folder(tmp_path / 'old')
    done = run(tmp_path / 'old', '--out', tmp_path / 'new')
    assert done.returncode == 0, done.stderr
    llm = CausalLM(pretrained=str(tmp_path / 'new')).eval()
    ids = torch.randint(0, 200, (2, 9))
    with torch.no_grad():
        torch.testing.assert_close(llm.lm(ids).logits, model(ids).logits)
    assert (tmp_path / 'new/vocab.json').is_file()


def test_sizes_that_do_not_fit_the_weights_are_named(tmp_path):
    fused_folder(tmp_path / 'old', intermediate_size=96)
    done = run(tmp_path / 'old', '--out', tmp_path / 'new')
    assert done.returncode == 2
    assert 'fc1.weight: checkpoint (128, 64), model (96, 64)' in done.stderr


def test_another_family_is_refused(tmp_path):
    fused_folder(tmp_path / 'old', model_type='llama')
    done = run(tmp_path / 'old', '--out', tmp_path / 'new')
    assert done.returncode == 2 and "model_type is 'llama', not phi" in done.stderr
