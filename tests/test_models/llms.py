# Copyright (c) mvp_mm authors. All rights reserved.
"""Tiny language models and prompts for their tests."""
from __future__ import annotations

import torch
from safetensors.torch import load_file, save_file

from mvp_mm.models.llms import CausalLM

SIZES = dict(vocab_size=60, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
             num_attention_heads=4, max_position_embeddings=64)
MODELS = dict(
    phi=dict(model_type='phi', partial_rotary_factor=0.5, hidden_act='gelu_pytorch_tanh'),
    llama=dict(model_type='llama', num_key_value_heads=2),
    qwen2=dict(model_type='qwen2', num_key_value_heads=2),
    qwen3=dict(model_type='qwen3', num_key_value_heads=2, head_dim=8))
LENGTHS = (5, 9, 3)


def make_prompts():
    """Embeddings (3, 9, 32) and mask of prompts of different lengths; the padding is noise."""
    mask = torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]
    return torch.randn(len(LENGTHS), max(LENGTHS), 32), mask


def small_llm(**args):
    torch.manual_seed(0)
    return CausalLM({**SIZES, **MODELS['phi'], 'initializer_range': 0.3}, **args).eval()


def rewrite(folder, change):
    """Change the tensors of a saved folder."""
    state = load_file(folder / 'model.safetensors')
    change(state)
    save_file(state, folder / 'model.safetensors', metadata={'format': 'pt'})


def without(part):
    """A change that drops the tensors with a part in their names."""
    def change(state):
        for key in [key for key in state if part in key]:
            del state[key]
    return change
