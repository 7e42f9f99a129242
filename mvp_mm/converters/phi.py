# Copyright (c) mvp_mm authors. All rights reserved.
"""Phi with queries, keys and values in one layer, for transformers' Phi."""
from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from mvp_mm.converters.conversion import Conversion, Rule, convert

_EMBEDDING = 'model.embed_tokens.weight'


def split_fused(fused: Tensor, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of a fused layer, whose rows are (heads, 3, head width).

    Args:
        fused: (3 D, …) weight or bias.
        num_heads: Attention heads.

    Raises:
        ValueError: If the rows cannot be shared out among the heads.
    """
    if fused.shape[0] % (3 * num_heads):
        raise ValueError(f'{fused.shape[0]} fused rows are no multiple of 3 × {num_heads} heads')
    query, key, value = (x.flatten(0, 1).contiguous()
                         for x in fused.unflatten(0, (num_heads, 3, -1)).unbind(1))
    return query, key, value


def phi_rules(num_heads: int, prefix: str = '') -> list[Rule]:
    """Rules for a Phi, fused or not.

    Args:
        num_heads: Attention heads.
        prefix: Put before our keys.
    """
    layer = r'(model\.layers\.\d+\.)'
    separate = tuple(rf'{prefix}\1self_attn.{part}_proj.\2' for part in 'qkv')
    return [
        Rule(rf'{layer}self_attn\.query_key_value\.(weight|bias)', separate,
             partial(split_fused, num_heads=num_heads)),
        Rule(rf'{layer}(self_attn\.(?:[qkv]_proj|dense)\.\w+)', rf'{prefix}\1\2'),
        Rule(rf'{layer}((?:mlp\.fc[12]|input_layernorm)\.\w+)', rf'{prefix}\1\2'),
        Rule(r'(model\.(?:embed_tokens|final_layernorm)\.\w+)', rf'{prefix}\1'),
        Rule(r'(lm_head\.\w+)', rf'{prefix}\1'),
    ]


def convert_phi(state: Mapping[str, Tensor], num_heads: int, prefix: str = '') -> Conversion:
    """Convert a Phi; where its output layer has no bias, transformers' gets one of zeros.

    Raises:
        ValueError: If the layout is another.
    """
    if _EMBEDDING not in state:
        raise ValueError(f'unknown layout: no {_EMBEDDING}; the file begins with '
                         f'{list(state)[:3]}')
    done = convert(state, phi_rules(num_heads, prefix))
    add_output_bias(done, prefix)
    return done


def add_output_bias(done: Conversion, prefix: str) -> None:
    """Give a converted output layer without bias one of zeros; transformers' Phi has one."""
    weight, bias = done.state.get(f'{prefix}lm_head.weight'), f'{prefix}lm_head.bias'
    if weight is not None and bias not in done.state:
        done.add(bias, torch.zeros(len(weight), dtype=weight.dtype), 'nothing: zeros')
