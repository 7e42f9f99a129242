# Copyright (c) mvp_mm authors. All rights reserved.
"""Bring public weights into our layout.

- detectron2's files of MaskDINO and OpenSeeD with a Swin: encoder, pixel decoder, and decoder
- mmdet's and timm's Swin, Swin's own files: encoder
- ``mm_projector.bin``: connector (LLaVA's MLP, or the released convolution block)
- checkpoints of MVP-LM's authors: all of these, the LLM and the rest

Every tensor is accounted for, and shapes are compared with the config's model. Converted decoders
need ``DINODecoder`` and released connectors ``ConvConnector``; configs/mvplm/released has both.

Example::

    python tools/model_converters/convert_weights.py configs/mvplm/stage2.py \
        model_final.pth --out checkpoints/perception.pth --cfg-options \
        model.perception.decoder.type=DINODecoder
"""
from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from torch import nn

import mvp_mm.models  # noqa: F401  registers the components
from mvp_mm.converters import Conversion, Layout, convert_layout, read_weights
from mvp_mm.engine.checkpoint import compare_with_model
from mvp_mm.engine.config_loading import load_config
from mvp_mm.models.llms.building import sizes_of
from mvp_mm.models.position import DetrPosition
from mvp_mm.models.released import DINODecoder
from mvp_mm.registry import MODELS
from mvp_mm.utils.atomic import replacing
from mvp_mm.utils.checkpoint_io import CheckpointError, HoldsObjectsError


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config of the model that is to take the weights')
    parser.add_argument('weights', help='the file to convert')
    parser.add_argument('--out', required=True, help='our checkpoint, for load_from')
    parser.add_argument('--encoder-only', action='store_true',
                        help='leave everything but the encoder')
    parser.add_argument('--trust-pickle', action='store_true',
                        help='run a file that holds more than tensors; it may do anything')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
                        help='settings to override')
    return parser.parse_args()


def build_parts(cfg: Config) -> nn.Module:
    """The parts that may take weights; the large ones have shapes, but no memory."""
    init_default_scope(cfg.get('default_scope', 'mvp_mm'))
    parts = nn.Module()
    parts.encoder = MODELS.build(cfg.model.encoder)
    channels = parts.encoder.out_channels
    parts.pixel_decoder = MODELS.build(dict(
        in_channels=channels, embed_dims=cfg.model.embed_dims, **cfg.model.pixel_decoder))
    llm = dict(cfg.model.llm)
    if llm.get('pretrained'):
        sizes = llm.get('config') or sizes_of(llm['pretrained'])
        llm.update(config=sizes, pretrained=None)
    with torch.device('meta'):
        parts.llm = MODELS.build(llm)
        parts.connector = MODELS.build(dict(
            in_channels=channels[-1], out_channels=parts.llm.hidden_size, **cfg.model.connector))
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


def main() -> None:
    """Convert."""
    args = parse_args()
    try:
        cfg = load_config(args.config, args.cfg_options)
        parts = build_parts(cfg)
        points = decoder_points(parts)
        done, layout = convert_layout(
            read_weights(args.weights, args.trust_pickle), args.encoder_only,
            parts.llm.lm.config.num_attention_heads, points)
        check_position(parts, done)
        compared = compare_with_model(parts, done.state, args.weights)
    except HoldsObjectsError as error:
        sys.exit(f'error: {error}. If you trust its origin, --trust-pickle runs it')
    except (CheckpointError, FileNotFoundError) as error:
        sys.exit(f'error: {error}')
    except (OSError, ValueError) as error:
        sys.exit(f'error: {args.weights}: {error}')
    unused = [f'{key} (from {done.source[key]})' for key in compared.unused]
    if unused:
        sys.exit(f'error: {args.weights}: the model has no {unused[0]} and {len(unused) - 1} more')
    print(f'layout: {layout.title}')
    print(report(done, compared.fresh))
    for remark in remarks(layout, done.left, points):
        print(f'note: {remark}')
    with replacing(args.out) as file:
        torch.save(dict(state_dict=done.state, meta=dict(source=Path(args.weights).name)), file)
    print(f'written to {args.out}')


if __name__ == '__main__':
    main()
