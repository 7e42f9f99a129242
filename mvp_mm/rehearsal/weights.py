# Copyright (c) mvp_mm authors. All rights reserved.
"""Fabricates the public files of weights: their names and layouts, narrow and random.

Names are those of the published files, written down here and not turned around from the
converters, so that a rehearsal compares two sources.
"""
from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from mvp_mm.rehearsal import sizes
from mvp_mm.rehearsal.draw import Random
from mvp_mm.rehearsal.scenes import write_json
from mvp_mm.rehearsal.tokenizer import copy_tokenizer, write_tokenizer


def write_swin(path: Path) -> None:
    """Write Swin-B as its authors publish it, with the classifier of ImageNet-22k."""
    draw = Random(1)
    add_swin(draw, '')
    width = 8 * sizes.SWIN_WIDTH
    draw.norm('norm', width)
    draw.linear('head', width, 218)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(model=draw.state), path)


def add_swin(draw: Random, prefix: str) -> None:
    """Draw a Swin under its authors' names, buffers included."""
    window = sizes.SWIN_WINDOW
    draw.conv(f'{prefix}patch_embed.proj', 3, sizes.SWIN_WIDTH, 4)
    draw.norm(f'{prefix}patch_embed.norm', sizes.SWIN_WIDTH)
    for stage, (depth, heads) in enumerate(zip(sizes.SWIN_DEPTHS, sizes.SWIN_HEADS, strict=True)):
        width = sizes.SWIN_WIDTH * 2 ** stage
        for block in range(depth):
            name = f'{prefix}layers.{stage}.blocks.{block}'
            draw.norm(f'{name}.norm1', width)
            draw.add(f'{name}.attn.relative_position_bias_table', (2 * window - 1) ** 2, heads)
            draw.state[f'{name}.attn.relative_position_index'] = _position_index(window)
            draw.linear(f'{name}.attn.qkv', width, 3 * width)
            draw.linear(f'{name}.attn.proj', width, width)
            draw.norm(f'{name}.norm2', width)
            draw.linear(f'{name}.mlp.fc1', width, 4 * width)
            draw.linear(f'{name}.mlp.fc2', 4 * width, width)
        if stage < 3:
            draw.norm(f'{prefix}layers.{stage}.downsample.norm', 4 * width)
            draw.linear(f'{prefix}layers.{stage}.downsample.reduction', 4 * width, 2 * width,
                        bias=False)


def _position_index(window: int) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(window), torch.arange(window), indexing='ij')
    places = torch.stack([rows.flatten(), columns.flatten()])
    offset = (places[:, :, None] - places[:, None]) + window - 1
    return offset[0] * (2 * window - 1) + offset[1]


def write_maskdino(path: Path) -> None:
    """Write detectron2's file of MaskDINO or OpenSeeD with a Swin-B: all but the LLM's side."""
    draw = Random(2)
    add_swin(draw, 'backbone.')
    for level in range(4):
        draw.norm(f'backbone.norm{level}', sizes.SWIN_WIDTH * 2 ** level)
    add_pixel_decoder(draw, 'sem_seg_head.pixel_decoder.')
    add_predictor(draw, 'sem_seg_head.predictor.')
    # What no other model has a place for: classes, learned queries, and the loss's buffer.
    draw.linear('sem_seg_head.predictor.class_embed', sizes.WIDTH, 133)
    draw.add('sem_seg_head.predictor.label_enc.weight', 133, sizes.WIDTH)
    draw.add('criterion.empty_weight', 134)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(model=draw.state, iteration=368749), path)


def add_pixel_decoder(draw: Random, prefix: str) -> None:
    """Draw MaskDINO's pixel decoder of four levels, the finest first."""
    width = sizes.WIDTH
    channels = [sizes.SWIN_WIDTH * 2 ** level for level in range(4)]
    for level, inputs in enumerate(channels[1:]):
        draw.conv(f'{prefix}input_proj.{level}.0', inputs, width, 1)
        draw.norm(f'{prefix}input_proj.{level}.1', width)
    draw.conv(f'{prefix}input_proj.3.0', channels[-1], width, 3)
    draw.norm(f'{prefix}input_proj.3.1', width)
    draw.add(f'{prefix}transformer.level_embed', 4, width)
    for layer in range(sizes.ENCODER_LAYERS):
        name = f'{prefix}transformer.encoder.layers.{layer}'
        _add_deformable(draw, f'{name}.self_attn')
        draw.norm(f'{name}.norm1', width)
        draw.linear(f'{name}.linear1', width, sizes.FEEDFORWARD)
        draw.linear(f'{name}.linear2', sizes.FEEDFORWARD, width)
        draw.norm(f'{name}.norm2', width)
    draw.conv(f'{prefix}adapter_1', channels[0], width, 1, bias=False)
    draw.norm(f'{prefix}adapter_1.norm', width)
    draw.conv(f'{prefix}layer_1', width, width, 3, bias=False)
    draw.norm(f'{prefix}layer_1.norm', width)
    draw.conv(f'{prefix}mask_features', width, width, 1)


def _add_deformable(draw: Random, name: str) -> None:
    width, points = sizes.WIDTH, sizes.HEADS * 4 * sizes.POINTS
    draw.linear(f'{name}.sampling_offsets', width, 2 * points)
    draw.linear(f'{name}.attention_weights', width, points)
    draw.linear(f'{name}.value_proj', width, width)
    draw.linear(f'{name}.output_proj', width, width)


def add_predictor(draw: Random, prefix: str) -> None:
    """Draw MaskDINO's decoder: selection, nine layers, box and mask head."""
    width = sizes.WIDTH
    draw.linear(f'{prefix}enc_output', width, width)
    draw.norm(f'{prefix}enc_output_norm', width)
    draw.mlp(f'{prefix}mask_embed', width, width, width, width)
    draw.norm(f'{prefix}decoder_norm', width)
    for layer in range(sizes.DECODER_LAYERS):
        name = f'{prefix}decoder.layers.{layer}'
        _add_deformable(draw, f'{name}.cross_attn')
        draw.add(f'{name}.self_attn.in_proj_weight', 3 * width, width)
        draw.add(f'{name}.self_attn.in_proj_bias', 3 * width)
        draw.linear(f'{name}.self_attn.out_proj', width, width)
        for k in (1, 2, 3):
            draw.norm(f'{name}.norm{k}', width)
        draw.linear(f'{name}.linear1', width, sizes.FEEDFORWARD)
        draw.linear(f'{name}.linear2', sizes.FEEDFORWARD, width)
    draw.norm(f'{prefix}decoder.norm', width)
    draw.state[f'{prefix}decoder_norm.weight'] = draw.state[f'{prefix}decoder.norm.weight']
    draw.state[f'{prefix}decoder_norm.bias'] = draw.state[f'{prefix}decoder.norm.bias']
    draw.mlp(f'{prefix}decoder.ref_point_head', 2 * width, width, width)
    draw.mlp(f'{prefix}_bbox_embed', width, width, width, 4)
    # One box head, stored once for each layer besides.
    for key in [key for key in draw.state if key.startswith(f'{prefix}_bbox_embed.')]:
        for layer in range(sizes.DECODER_LAYERS):
            end = key.removeprefix(f'{prefix}_bbox_embed.')
            draw.state[f'{prefix}decoder.bbox_embed.{layer}.{end}'] = draw.state[key]


def write_phi(folder: Path, fused: bool = False, tokenizer: Path | None = None) -> None:
    """Write a folder of Phi-1.5: ``config.json``, weights in bfloat16, tokenizer.

    Args:
        folder: The folder.
        fused: Write the older layout, with queries, keys and values in one layer.
        tokenizer: A folder whose tokenizer to take; by default one is made.
    """
    if tokenizer is None:
        write_tokenizer(folder)
    else:
        copy_tokenizer(tokenizer, folder)
    draw = Random(3)
    add_phi(draw, sizes.PHI_VOCABULARY, fused)
    state = {name: tensor.to(torch.bfloat16) for name, tensor in draw.state.items()}
    config = dict(sizes.PHI, model_type='phi', vocab_size=sizes.PHI_VOCABULARY,
                  torch_dtype='bfloat16', architectures=['PhiForCausalLM'],
                  tie_word_embeddings=False, bos_token_id=None, eos_token_id=None,
                  rope_theta=10000.0, use_cache=True,
                  num_key_value_heads=None, qk_layernorm=False, resid_pdrop=0.0, embd_pdrop=0.0)
    if fused:
        torch.save(state, folder / 'pytorch_model.bin')
        config.update(auto_map=dict(AutoConfig='configuration_phi.PhiConfig'))
    else:
        save_file(state, folder / 'model.safetensors', metadata=dict(format='pt'))
        write_json(folder / 'generation_config.json', dict(_from_model_config=True))
    write_json(folder / 'config.json', config)


def add_phi(draw: Random, vocabulary: int, fused: bool) -> None:
    """Draw a Phi under transformers' names."""
    width, inner = sizes.PHI_WIDTH, 2 * sizes.PHI_WIDTH
    draw.add('model.embed_tokens.weight', vocabulary, width)
    for layer in range(sizes.PHI_LAYERS):
        name = f'model.layers.{layer}'
        draw.norm(f'{name}.input_layernorm', width)
        if fused:
            draw.linear(f'{name}.self_attn.query_key_value', width, 3 * width)
        else:
            for part in ('q_proj', 'k_proj', 'v_proj'):
                draw.linear(f'{name}.self_attn.{part}', width, width)
        draw.linear(f'{name}.self_attn.dense', width, width)
        draw.linear(f'{name}.mlp.fc1', width, inner)
        draw.linear(f'{name}.mlp.fc2', inner, width)
    draw.norm('model.final_layernorm', width)
    draw.linear('lm_head', width, vocabulary)


def write_released(path: Path) -> None:
    """Write a checkpoint as the authors' released code saves it."""
    draw = Random(4)
    add_swin(draw, 'model.vision_tower.')
    for level in range(4):
        draw.norm(f'model.vision_tower.norm{level}', sizes.SWIN_WIDTH * 2 ** level)
    _add_conv_connector(draw, 'model.mm_projector.')
    add_phi(draw, sizes.RELEASED_VOCABULARY, fused=True)
    add_pixel_decoder(draw, 'pixel_decoder.')
    add_predictor(draw, 'predictor.')
    width, language = sizes.WIDTH, sizes.PHI_WIDTH
    for part in ('CLASS_proj', 'SEG_proj'):
        draw.mlp(f'predictor.{part}', width, width, width)
    for part in ('class_name_projector', 'SEG_token_projector'):
        draw.linear(part, language, width)
    draw.add('stuff_query.weight', 100, width)
    draw.add('stuff_embed.weight', 100, 4)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(draw.state, path)


def _add_conv_connector(draw: Random, prefix: str) -> None:
    inputs, planes, block = 8 * sizes.SWIN_WIDTH, sizes.PLANES, f'{prefix}layer1.0'
    draw.conv(f'{block}.conv1', inputs, planes, 3, bias=False)
    draw.conv(f'{block}.conv2', planes, planes, 3, bias=False)
    draw.conv(f'{block}.downsample.0', inputs, planes, 1, bias=False)
    for name in ('bn1', 'bn2', 'downsample.1'):
        draw.norm(f'{block}.{name}', planes)
        draw.state[f'{block}.{name}.running_mean'] = torch.zeros(planes)
        draw.state[f'{block}.{name}.running_var'] = torch.ones(planes)
        draw.state[f'{block}.{name}.num_batches_tracked'] = torch.tensor(100)
    draw.linear(f'{prefix}fc', planes, sizes.PHI_WIDTH)
