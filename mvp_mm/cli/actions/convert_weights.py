# Copyright (c) mvp_mm authors. All rights reserved.
"""Conversion of public weights of encoders and perception models."""
from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

import mvp_mm.models  # noqa: F401  registers the components
from mvp_mm.cli.command import Failure
from mvp_mm.converters import Conversion, Layout, convert_layout, read_weights
from mvp_mm.engine.checkpoint import compare_with_model
from mvp_mm.engine.config_error import ConfigError
from mvp_mm.engine.config_loading import load_config
from mvp_mm.models.connectors import build_connector
from mvp_mm.models.llms.building import without_weights
from mvp_mm.models.position import DetrPosition
from mvp_mm.models.released import DINODecoder
from mvp_mm.registry import MODELS
from mvp_mm.utils.atomic import replacing
from mvp_mm.utils.checkpoint_io import CheckpointError, HoldsObjectsError


def build_parts(cfg: Config) -> nn.Module:
    """The parts that may take weights; the large ones have shapes, but no memory."""
    init_default_scope(cfg.get('default_scope', 'mvp_mm'))
    parts = nn.Module()
    parts.encoder = MODELS.build(cfg.model.encoder)
    channels = parts.encoder.out_channels
    parts.pixel_decoder = MODELS.build(dict(
        in_channels=channels, embed_dims=cfg.model.embed_dims, **cfg.model.pixel_decoder))
    with torch.device('meta'):
        parts.llm = MODELS.build(without_weights(cfg.model.llm))
        parts.connector = build_connector(
            cfg.model.connector, channels, parts.llm.hidden_size)
        parts.perception = MODELS.build(dict(
            llm_dims=parts.llm.hidden_size, embed_dims=cfg.model.embed_dims,
            **cfg.model.perception))
    return parts


def decoder_points(parts: nn.Module) -> int | None:
    """Points per head and level of a decoder that can take weights; None for another."""
    decoder = parts.perception.decoder
    if isinstance(decoder, DINODecoder):
        return decoder.layers[0].cross_attention.num_points
    return None


def remarks(layout: Layout, left: list[str], points: int | None) -> list[str]:
    """What to know about weights that are left."""
    found = [layout.remark] if left and layout.remark else []
    if points is None and layout.predictor and any(k.startswith(layout.predictor) for k in left):
        found.append('the decoder can be taken with model.perception.decoder.type=DINODecoder')
    return found


def check_position(parts: nn.Module, done: Conversion) -> None:
    """Refuse a pixel decoder's weights where the model would give them other position codes.

    Raises:
        ValueError: Saying what to set.
    """
    converted = any(key.startswith('pixel_decoder.') for key in done.state)
    if converted and not isinstance(parts.pixel_decoder.position, DetrPosition):
        raise ValueError(
            'these weights of a pixel decoder were trained with DETR\'s position codes: set '
            'model.pixel_decoder.position.type=DetrPosition, here and in training, or leave them '
            'with --encoder-only')


def report(done: Conversion, missing: list[str]) -> str:
    """What was mapped, what was left, what is missing, by the first two parts of the names."""
    titles = {'mapped': list(done.state), 'left in the file': done.left,
              'missing in the file': missing}
    lines = []
    for title, keys in titles.items():
        counts = Counter('.'.join(key.split('.')[:2]) for key in keys)
        lines.append(f'{title}: {len(keys)}')
        lines += [f'  {part}: {count}' for part, count in counts.items()]
    return '\n'.join(lines)


def convert_file(config: str, source: Path, out: Path, encoder_only: bool, trust_pickle: bool,
                 cfg_options: dict[str, Any] | None) -> None:
    """Convert a file of weights and report what became of every tensor.

    Args:
        config: Config of the model that is to take the weights.
        source: The file.
        out: Our checkpoint.
        encoder_only: Whether to leave everything but the encoder.
        trust_pickle: Whether to run a file that holds more than tensors.
        cfg_options: Settings to override.

    Raises:
        Failure: If a file cannot be read or does not fit the model.
    """
    try:
        cfg = load_config(config, cfg_options)
        parts = build_parts(cfg)
        points = decoder_points(parts)
        done, layout = convert_layout(
            read_weights(source, trust_pickle), encoder_only,
            parts.llm.lm.config.num_attention_heads, points)
        check_position(parts, done)
        compared = compare_with_model(parts, done.state, source)
    except HoldsObjectsError as error:
        raise Failure(f'{error}. If you trust its origin, --trust-pickle runs it') from error
    except (CheckpointError, ConfigError, FileNotFoundError) as error:
        raise Failure(str(error)) from error
    except (OSError, ValueError) as error:
        raise Failure(f'{source}: {error}') from error
    unused = [f'{key} (from {done.source[key]})' for key in compared.unused]
    if unused:
        raise Failure(f'{source}: the model has no {unused[0]} and {len(unused) - 1} more')
    print(f'layout: {layout.title}')
    print(report(done, compared.fresh))
    for remark in remarks(layout, done.left, points):
        print(f'note: {remark}')
    with replacing(out) as file:
        torch.save(dict(state_dict=done.state, meta=dict(source=source.name)), file)
    print(f'written to {out}')
