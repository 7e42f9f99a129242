# Copyright (c) mvp_mm authors. All rights reserved.
"""Check the sizes of an LLM in a config, which transformers takes as they come."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from transformers import CONFIG_MAPPING, PretrainedConfig
from transformers.activations import ACT2FN

from mvp_mm.engine.config_error import hint
from mvp_mm.engine.config_values import fits, type_name

_ACTIVATIONS = ('hidden_act', 'activation_function', 'hidden_activation')
_PLAIN = (bool, int, float, str)


def llm_problems(cfg: Config) -> Iterator[str]:
    """Find values of ``model.llm.config`` of which no LLM can be built.

    A value must be of the type of the family's default. A config beside ``pretrained`` is not
    read, and not checked.

    Args:
        cfg: The config.
    """
    llm = (cfg.get('model') or {}).get('llm')
    config = llm.get('config') if isinstance(llm, dict) and not llm.get('pretrained') else None
    if not isinstance(config, dict):
        return
    where = 'model.llm.config'
    family = config.get('model_type')
    if not isinstance(family, str) or family not in CONFIG_MAPPING:
        yield (f'{where}.model_type: {family!r} is no family of transformers'
               f'{hint(str(family), CONFIG_MAPPING)}')
        return
    usual = CONFIG_MAPPING[family]()
    for key, value in config.items():
        default = getattr(usual, key, None)
        if isinstance(default, _PLAIN) and value is not None and not fits(value, type(default)):
            yield f'{where}.{key}: must be {type_name(type(default))}, got {value!r}'
        elif key in _ACTIVATIONS and isinstance(value, str) and value not in ACT2FN:
            yield f"{where}.{key}: '{value}' is no activation{hint(value, ACT2FN)}"
    yield from _head_problems(config, usual, where)


def _head_problems(config: Mapping[str, Any], usual: PretrainedConfig, where: str) -> Iterator[str]:
    """Compare the width with the number of heads, and these with the keys' and values'."""
    size, heads = (config.get(key, getattr(usual, key, None))
                   for key in ('hidden_size', 'num_attention_heads'))
    if not isinstance(size, int) or not isinstance(heads, int) or heads < 1:
        return
    if getattr(usual, 'head_dim', None) is None and 'head_dim' not in config and size % heads:
        yield (f'{where}.num_attention_heads: hidden_size {size} cannot be divided among '
               f'{heads} heads')
    shared = config.get('num_key_value_heads')
    if isinstance(shared, int) and shared > 0 and heads % shared:
        yield (f'{where}.num_key_value_heads: {heads} heads cannot share {shared} heads of keys '
               'and values')
