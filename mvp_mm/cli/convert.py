# Copyright (c) mvp_mm authors. All rights reserved.
"""``mvp-mm convert``: public weights in our layout."""
from __future__ import annotations

from pathlib import Path

import click

from mvp_mm.cli.command import Command
from mvp_mm.cli.options import cfg_options, parse_pairs


@click.group()
def convert() -> None:
    """Bring public weights into the layout of this package."""


@convert.command(cls=Command)
@click.argument('config')
@click.argument('file', type=click.Path(path_type=Path))
@click.option('--out', type=click.Path(path_type=Path), required=True, metavar='FILE',
              help='The checkpoint to write, for load_from.')
@click.option('--encoder-only', is_flag=True, help='Leave everything but the encoder.')
@click.option('--trust-pickle', is_flag=True,
              help='Run a file that holds more than tensors; it may do anything.')
@cfg_options
def weights(config: str, file: Path, out: Path, encoder_only: bool, trust_pickle: bool,
            cfg_options: tuple[str, ...]) -> None:
    """Convert FILE, weights of an encoder or a perception model, for the model of CONFIG.

    \b
    Layouts that are known:
      detectron2's files of MaskDINO and OpenSeeD with a Swin: encoder, pixel decoder, decoder
      mmdet's and timm's Swin, Swin's own files: encoder
      mm_projector.bin: connector (LLaVA's MLP, or the released convolution block)
      checkpoints of MVP-LM's authors: all of these, the LLM and the rest

    Every tensor is accounted for, and shapes are compared with the model's. Decoders need
    DINODecoder and released connectors ConvConnector; configs/mvplm/released has both.

    \b
    Examples:
      mvp-mm convert weights configs/mvplm/stage2.py swin.pth --out swin_ours.pth --encoder-only
      mvp-mm convert weights configs/mvplm/released/stage2.py model_final.pth --out ours.pth
    """
    from mvp_mm.cli.actions.convert_weights import convert_file
    convert_file(config, file, out, encoder_only, trust_pickle, parse_pairs(cfg_options))


@convert.command(cls=Command)
@click.argument('folder', type=click.Path(path_type=Path))
@click.option('--out', type=click.Path(path_type=Path), required=True, metavar='DIR',
              help='The new folder.')
def phi(folder: Path, out: Path) -> None:
    """Bring FOLDER, a Phi with config.json and weights, into the layout of transformers.

    Queries, keys and values that are fused in one layer (query_key_value) are split; a missing
    bias of the output layer becomes zeros. The new folder serves model.llm.pretrained and
    model.tokenizer.path.

    \b
    Example:
      mvp-mm convert phi downloads/phi-1_5_dev --out checkpoints/phi-1_5
    """
    from mvp_mm.cli.actions.convert_phi import convert_folder
    convert_folder(folder, out)
