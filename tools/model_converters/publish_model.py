# Copyright (c) mvp_mm authors. All rights reserved.
"""Write a trained model as one folder: safetensors, JSON config, tokenizer, and what made it.

``origin.json`` in the folder holds command, commit and seed of the training.

Example::

    python tools/model_converters/publish_model.py configs/mvplm/tiny/pretrained.py \
        work_dirs/pretrained/iter_3000.pth --out mvp_mm/weights/tiny --half \
        --made-by "python tools/train.py configs/mvplm/tiny/pretrained.py"
"""
from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from mmengine.config import DictAction
from mmengine.registry import init_default_scope

from mvp_mm.analysis.results import commit, config_hash, file_hash, hardware
from mvp_mm.apis.published import WEIGHTS, save_published
from mvp_mm.engine.checkpoint import load_whole
from mvp_mm.engine.config_loading import load_config
from mvp_mm.registry import MODELS
from mvp_mm.utils.atomic import write_text
from mvp_mm.utils.checkpoint_io import read_checkpoint


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config that the model was trained with')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('--out', type=Path, required=True, help='the new folder')
    parser.add_argument('--half', action='store_true', help='weights in float16')
    parser.add_argument('--made-by', required=True, metavar='COMMAND',
                        help='command that trained it')
    parser.add_argument('--commit', help='commit of the training; default that of this checkout')
    parser.add_argument('--replace', action='store_true', help='replace a published folder')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


def main() -> None:
    """Publish."""
    args = parse_args()
    try:
        cfg = load_config(args.config, args.cfg_options)
        init_default_scope(cfg.get('default_scope', 'mvp_mm'))
        checkpoint = read_checkpoint(args.checkpoint)
        # The weights are all in the checkpoint: what parts once started from is not read.
        settings = cfg.model.copy()
        settings.encoder.backbone.pop('pretrained_path', None)
        model = load_whole(MODELS.build(settings), checkpoint['state_dict'], args.checkpoint)
        if args.half:
            model.half()
        if args.replace and (args.out / 'origin.json').is_file():
            shutil.rmtree(args.out)
        save_published(args.out, model, cfg)
    except (OSError, ValueError) as error:
        sys.exit(f'publish_model: error: {error}')
    write_text(args.out / 'origin.json', json.dumps(origin(args, cfg, checkpoint), indent=1) + '\n')
    size = sum(file.stat().st_size for file in args.out.rglob('*') if file.is_file())
    print(f'{size / 1e6:.1f} MB written to {args.out}')


def origin(args: argparse.Namespace, cfg: Any, checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Say what made the weights."""
    meta = checkpoint['meta']
    made = dict(commit=args.commit, changed=None) if args.commit else commit()
    return dict(
        command=args.made_by, **made, seed=meta.get('seed', cfg.get('randomness', {}).get('seed')),
        config=dict(file=args.config, sha256=config_hash(cfg)), steps=meta.get('iter'),
        dtype='float16' if args.half else str(torch.float32).removeprefix('torch.'),
        sha256=file_hash(args.out / WEIGHTS), published_on=hardware())


if __name__ == '__main__':
    main()
