# Copyright (c) mvp_mm authors. All rights reserved.
"""Fabricates the encoders and LLMs of ``configs/mvplm/small``, as timm and transformers name them.

Names are written down here, as in :mod:`~mvp_mm.rehearsal.weights`; widths and depths are small.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file

from mvp_mm.rehearsal import sizes
from mvp_mm.rehearsal.draw import Random
from mvp_mm.rehearsal.scenes import write_json
from mvp_mm.rehearsal.tokenizer import (
    copy_tokenizer,
    write_qwen3_tokenizer,
    write_smollm2_tokenizer,
)

LITE0, VIT, CONVNEXT = (f'checkpoints/{name}.safetensors' for name in (
    'efficientnet_lite0', 'vit_small_patch14_dinov2', 'convnext_tiny'))
SMOLLM2_135M, SMOLLM2_360M, QWEN3 = (f'checkpoints/{name}' for name in (
    'smollm2-135m-instruct', 'smollm2-360m-instruct', 'qwen3-0.6b'))


def write_small_parts(place: Path) -> None:
    """Write the files and folders that the small configs name, below a rehearsal's folder."""
    _write(place / LITE0, _efficientnet())
    _write(place / VIT, _vit())
    _write(place / CONVNEXT, _convnext())
    write_smollm2_tokenizer(place / SMOLLM2_135M)
    copy_tokenizer(place / SMOLLM2_135M, place / SMOLLM2_360M)
    write_qwen3_tokenizer(place / QWEN3)
    _write_llm(place / SMOLLM2_135M, sizes.SMOLLM2_135M, 7)
    _write_llm(place / SMOLLM2_360M, sizes.SMOLLM2_360M, 8)
    _write_llm(place / QWEN3, sizes.QWEN3, 9)


def _write(path: Path, state: dict[str, torch.Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path, metadata=dict(format='pt'))


def _efficientnet() -> dict[str, torch.Tensor]:
    """Draw EfficientNet-Lite0 as timm does: it is small enough as it is."""
    torch.manual_seed(2)
    return timm.create_model('tf_efficientnet_lite0').state_dict()


def _vit() -> dict[str, torch.Tensor]:
    """Draw DINOv2's ViT: patches of 14 on images of 518, scaled residuals, no classifier."""
    draw, width = Random(5), sizes.VIT['embed_dim']
    draw.add('cls_token', 1, 1, width)
    draw.add('pos_embed', 1, 1 + 37 * 37, width)
    draw.conv('patch_embed.proj', 3, width, 14)
    for block in range(sizes.VIT['depth']):
        name = f'blocks.{block}'
        draw.norm(f'{name}.norm1', width)
        draw.linear(f'{name}.attn.qkv', width, 3 * width)
        draw.linear(f'{name}.attn.proj', width, width)
        draw.add(f'{name}.ls1.gamma', width)
        draw.norm(f'{name}.norm2', width)
        draw.linear(f'{name}.mlp.fc1', width, 4 * width)
        draw.linear(f'{name}.mlp.fc2', 4 * width, width)
        draw.add(f'{name}.ls2.gamma', width)
    draw.norm('norm', width)
    return draw.state


def _convnext() -> dict[str, torch.Tensor]:
    """Draw ConvNeXt-T with the classifier of ImageNet-1k."""
    draw, widths = Random(6), sizes.CONVNEXT['dims']
    draw.conv('stem.0', 3, widths[0], 4)
    draw.norm('stem.1', widths[0])
    for stage, (depth, width) in enumerate(zip(sizes.CONVNEXT['depths'], widths, strict=True)):
        if stage:
            draw.norm(f'stages.{stage}.downsample.0', widths[stage - 1])
            draw.conv(f'stages.{stage}.downsample.1', widths[stage - 1], width, 2)
        for block in range(depth):
            name = f'stages.{stage}.blocks.{block}'
            draw.add(f'{name}.gamma', width)
            draw.conv(f'{name}.conv_dw', 1, width, 7)
            draw.norm(f'{name}.norm', width)
            draw.linear(f'{name}.mlp.fc1', width, 4 * width)
            draw.linear(f'{name}.mlp.fc2', 4 * width, width)
    draw.norm('head.norm', widths[-1])
    draw.linear('head.fc', widths[-1], 1000)
    return draw.state


def _write_llm(folder: Path, config: dict[str, Any], seed: int) -> None:
    """Write what stands beside a tokenizer: config and weights in bfloat16."""
    state = {name: tensor.to(torch.bfloat16) for name, tensor in _llm(config, seed).items()}
    _write(folder / 'model.safetensors', state)
    write_json(folder / 'config.json', dict(
        config, hidden_act='silu', attention_bias=False, tie_word_embeddings=True,
        torch_dtype='bfloat16', use_cache=True))
    write_json(folder / 'generation_config.json', dict(
        _from_model_config=True, eos_token_id=config['eos_token_id']))


def _llm(config: dict[str, Any], seed: int) -> dict[str, torch.Tensor]:
    """Draw grouped queries, gated MLPs, RMS norms; Qwen3 norms queries and keys besides."""
    draw, width = Random(seed), config['hidden_size']
    head = config.get('head_dim', width // config['num_attention_heads'])
    rows = {'q_proj': config['num_attention_heads'] * head,
            'k_proj': config['num_key_value_heads'] * head,
            'v_proj': config['num_key_value_heads'] * head}
    draw.add('model.embed_tokens.weight', config['vocab_size'], width)
    for layer in range(config['num_hidden_layers']):
        name = f'model.layers.{layer}'
        draw.scale(f'{name}.input_layernorm', width)
        for part, outputs in rows.items():
            draw.linear(f'{name}.self_attn.{part}', width, outputs, bias=False)
        draw.linear(f'{name}.self_attn.o_proj', rows['q_proj'], width, bias=False)
        if config['model_type'] == 'qwen3':
            draw.scale(f'{name}.self_attn.q_norm', head)
            draw.scale(f'{name}.self_attn.k_norm', head)
        draw.scale(f'{name}.post_attention_layernorm', width)
        inner = config['intermediate_size']
        draw.linear(f'{name}.mlp.gate_proj', width, inner, bias=False)
        draw.linear(f'{name}.mlp.up_proj', width, inner, bias=False)
        draw.linear(f'{name}.mlp.down_proj', inner, width, bias=False)
    draw.scale('model.norm', width)
    if config['model_type'] == 'qwen3':
        # Tied to the embedding, and stored all the same.
        draw.state['lm_head.weight'] = draw.state['model.embed_tokens.weight'].clone()
    return draw.state
