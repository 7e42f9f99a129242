# Copyright (c) mvp_mm authors. All rights reserved.
"""Builds language models of transformers and checks them before anything is trained."""
from __future__ import annotations

import copy
import difflib
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AttentionInterface,
    AutoConfig,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.activations import NewGELUActivation
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import is_flash_attn_2_available

FUSED_ATTENTION = ('query_key_value', 'qkv_proj', 'Wqkv', 'c_attn')
# An attention that transformers has no mask for. It must be known as one, though no layer uses it.
_NO_MASK = 'mvp_mm_no_mask'
AttentionInterface.register(_NO_MASK, sdpa_attention_forward)
_NEEDED = ('hidden_size', 'vocab_size', 'max_position_embeddings', 'num_hidden_layers')


def build_lm(config: dict | None, pretrained: str | None, attn_implementation: str,
             num_layers: int | None = None) -> PreTrainedModel:
    """Build a decoder-only language model.

    Args:
        config: ``model_type`` of transformers and its sizes, for random weights.
        pretrained: Local folder of weights and their config; ``config`` is then not read.
        attn_implementation: Attention of transformers.
        num_layers: Keep this many of the first layers, and the final norm; None keeps all.

    Raises:
        FileNotFoundError: If the folder is none of a model.
        ValueError: If none of the sources is given, the family is unknown or not
            decoder-only, flash attention cannot run here, there are fewer layers than
            ``num_layers``, or the folder's weights cannot be read, are not all of the model's,
            or are not finite.
    """
    if config is None and pretrained is None:
        raise ValueError('CausalLM needs config or pretrained')
    if attn_implementation.startswith('flash_attention'):
        _check_flash_attention(attn_implementation)
    if pretrained is None:
        sizes = dict(config)
        family = sizes.pop('model_type', None)
        _check_family(family)
        hf_config = AutoConfig.for_model(family, **sizes)
        _check_decoder_only(hf_config)
        _cut(hf_config, num_layers)
        lm = AutoModelForCausalLM.from_config(
            hf_config, attn_implementation=attn_implementation)
    else:
        hf_config = _config_of(pretrained)
        _check_decoder_only(hf_config)
        # All layers are read, so that the check of the folder is the same, and then some dropped.
        lm = _read_folder(pretrained, attn_implementation)
        if _cut(hf_config, num_layers):
            _drop_layers(lm, num_layers)
    _fuse_gelu(lm)
    return lm


def _cut(config: PretrainedConfig, num_layers: int | None) -> bool:
    """Shorten a config to its first layers, in place; tell whether any are left out."""
    if num_layers is None:
        return False
    count = config.num_hidden_layers
    if not 1 <= num_layers <= count:
        raise ValueError(f'llm.num_layers must be 1 to {count}, the layers of the '
                         f'{config.model_type} model, got {num_layers!r}')
    config.num_hidden_layers = num_layers
    if getattr(config, 'layer_types', None):
        config.layer_types = config.layer_types[:num_layers]
    return num_layers < count


def _drop_layers(lm: PreTrainedModel, num_layers: int) -> None:
    """Leave the first layers of a model and its final norm, in place."""
    layers = decoder_layers(lm)
    MMLogger.get_current_instance().info(
        f'llm.num_layers: the first {num_layers} of {len(layers)} layers are kept')
    del layers[num_layers:]
    _cut(lm.config, num_layers)


def _read_folder(folder: str, attn_implementation: str) -> PreTrainedModel:
    """Read all weights of a folder."""
    try:
        # Not in the folder's precision: Phi-1.5's is float16, in which AdamW's steps are lost.
        lm, info = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, attn_implementation=attn_implementation,
            dtype=torch.float32, output_loading_info=True)
    except SafetensorError as error:
        raise ValueError(f'{folder}: a weight file cannot be read: {error}') from error
    _check_complete(lm, folder, set(info['missing_keys']), set(info['unexpected_keys']))
    _check_finite(lm, folder)
    return lm


def _check_complete(lm: PreTrainedModel, folder: str, missing: set[str],
                    unexpected: set[str]) -> None:
    """Refuse a folder without all weights; transformers would draw them at random."""
    log = MMLogger.get_current_instance()
    head = lm.get_output_embeddings()
    biases = {f'{name}.bias' for name, part in lm.named_modules() if part is head}
    # Phi in its first layout has no bias there, which is a bias of zeros.
    if missing & biases and head.bias is not None:
        nn.init.zeros_(head.bias)
        log.warning(f'{folder} holds no {(missing & biases).pop()}: it is zero')
        missing = missing - biases
    if missing:
        fused = sorted(key for key in unexpected
                       if any(f'.{name}.' in key for name in FUSED_ATTENTION))
        reason = ''
        if fused:
            reason = (f'; it holds {fused[0]}: a fused layout, which '
                      'tools/model_converters/convert_phi.py takes apart (Phi)')
        raise ValueError(f'{folder} lacks {len(missing)} weights of its {lm.config.model_type} '
                         f'model, the first is {min(missing)}{reason}')
    if unexpected:
        log.warning(f'{folder}: {len(unexpected)} tensors are not used, the first is '
                    f'{min(unexpected)}')


def _fuse_gelu(lm: PreTrainedModel) -> None:
    """Replace ``gelu_new`` by the same function in one fused operation.

    Written out, its power runs in float32 under autocast and takes eight operations over the
    widest activations with it.
    """
    for module in lm.modules():
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, nn.GELU(approximate='tanh'))


def without_weights(llm: dict) -> dict:
    """Give the settings that build the same LLM at random values, without reading its weights.

    Args:
        llm: ``model.llm`` of a config.

    Returns:
        A copy. Where ``pretrained`` names a folder, its sizes stand in ``config``, which
        :func:`build_lm` would not have read either.

    Raises:
        FileNotFoundError: If the folder is none of a model.
    """
    if llm.get('pretrained') is None:
        return dict(llm)
    sizes = _config_of(llm['pretrained']).to_dict()
    # The precision of the folder's files, in which a model would not be trained.
    sizes.pop('dtype', None)
    return dict(llm, config=sizes, pretrained=None)


def _config_of(pretrained: str) -> PretrainedConfig:
    if not (Path(pretrained) / 'config.json').is_file():
        raise FileNotFoundError(f'llm.pretrained: {pretrained} is no folder with a config.json')
    raw, _ = PretrainedConfig.get_config_dict(pretrained)
    _check_family(raw.get('model_type'))
    return AutoConfig.from_pretrained(pretrained, local_files_only=True)


def _check_family(family: str | None) -> None:
    if family not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        close = difflib.get_close_matches(str(family), MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, n=1)
        hint = f'; did you mean {close[0]!r}?' if close else ''
        raise ValueError(f'Unknown LLM family: transformers has no causal language model of '
                         f'model_type {family!r}{hint}')


def _check_decoder_only(config: PretrainedConfig) -> None:
    missing = [name for name in _NEEDED if getattr(config, name, None) is None]
    # BERT's relatives read in both directions unless told otherwise.
    both_ways = (getattr(config, 'is_decoder', True) is False
                 and hasattr(config, 'add_cross_attention'))
    if config.is_encoder_decoder or both_ways or missing:
        reason = f'its config has no {", ".join(missing)}' if missing else 'it has an encoder'
        raise ValueError(f'LLM family {config.model_type!r} cannot be used: a decoder-only model '
                         f'with a fixed context is needed, and {reason}')


def _check_flash_attention(name: str) -> None:
    if not torch.cuda.is_available():
        raise ValueError(f'attn_implementation={name!r} needs a GPU; use sdpa on the CPU')
    if name == 'flash_attention_2' and not is_flash_attn_2_available():
        raise ValueError(f'attn_implementation={name!r} needs the package flash-attn, which is '
                         'not installed or does not fit this GPU; install it or use sdpa')


def check_block_mask(config: PretrainedConfig, user: str) -> None:
    """Refuse models whose attention does not follow a mask of our own.

    Args:
        config: Of the model.
        user: What needs the mask, for messages.

    Raises:
        ValueError: If attention is not ``sdpa``, or sees a window of the sequence alone.
    """
    if config._attn_implementation != 'sdpa':
        raise ValueError(f"{user} needs attn_implementation='sdpa', got "
                         f'{config._attn_implementation!r}')
    if not attends_to_all(config):
        raise ValueError(f'{user}: {config.model_type} attends within a window')


def attends_to_all(config: PretrainedConfig) -> bool:
    """Tell whether every layer attends to the whole sequence before a token."""
    kinds = set(getattr(config, 'layer_types', None) or ())
    windowed = (getattr(config, 'sliding_window', None) is not None
                and getattr(config, 'use_sliding_window', True) and not kinds)
    return not windowed and not kinds - {'full_attention'}


def without_mask(decoder: nn.Module, recorded: bool) -> nn.Module:
    """Give a decoder that makes no mask for ``sdpa`` attention, which is causal without one.

    It shares everything with the other but the config, so threads that answer with a mask at the
    same time are not concerned. transformers makes no mask for an attention that it has none for.
    Otherwise it looks for packed sequences on the device, and waits for it, and while a graph is
    captured it makes a mask.

    Args:
        decoder: The decoder.
        recorded: Whether the hidden states of its layers are asked for. It is given as it is then:
            it adds hooks for them to its layers once, and each view would add its own.
    """
    config = decoder.config
    if recorded or config._attn_implementation != 'sdpa' or not attends_to_all(config):
        return decoder
    view = copy.copy(decoder)
    view.config = copy.copy(config)
    view.config._attn_implementation = _NO_MASK
    return view


def _check_finite(lm: PreTrainedModel, source: str) -> None:
    for name, value in lm.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f'{source}: {name} holds values that are not finite')


def add_lora(lm: PreTrainedModel, r: int, alpha: float, dropout: float = 0.0,
             target_modules: list[str] | str = 'all-linear') -> None:
    """Freeze a model and put low-rank adapters beside its linear layers, in place (peft).

    Args:
        lm: The model.
        r: Rank.
        alpha: The adapters' output is scaled by ``alpha / r``.
        dropout: Dropout before the adapters.
        target_modules: Names of the layers, or 'all-linear'.

    Raises:
        ValueError: If no layer has such a name.
    """
    from peft import LoraConfig, inject_adapter_in_model

    lm.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(
        r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=target_modules), lm)
    if not any(p.requires_grad for p in lm.parameters()):
        raise ValueError(f'llm.lora: no layer is named as in target_modules={target_modules}')


def make_room(lm: PreTrainedModel, vocabulary: int) -> None:
    """Add a row for the newest of a tokenizer's tokens, in place, where every row is in use.

    SmolLM2's vocabulary is full, others have spare rows. The row trains if the others do.
    """
    if vocabulary != lm.config.vocab_size + 1:
        return
    trains = [part.weight.requires_grad for part in _embeddings(lm)]
    lm.resize_token_embeddings(vocabulary, mean_resizing=False)
    for part, flag in zip(_embeddings(lm), trains, strict=True):
        part.requires_grad_(flag)


def _embeddings(lm: PreTrainedModel) -> tuple[nn.Module, nn.Module]:
    return lm.get_input_embeddings(), lm.get_output_embeddings()


def decoder_layers(lm: PreTrainedModel) -> nn.ModuleList:
    """Find a model's list of transformer layers, whatever its family calls it."""
    count = lm.config.num_hidden_layers
    return next(module for module in lm.get_decoder().modules()
                if isinstance(module, nn.ModuleList) and len(module) == count)
