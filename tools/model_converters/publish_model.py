# Copyright (c) mvp_mm authors. All rights reserved.
"""Write a trained model as one folder: safetensors, JSON config, tokenizer, card, what made it.

``origin.json`` in the folder holds command, commit and seed of the training; the card, README.md,
shows the figures of a result file of ``measure_model.py``.

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
import tempfile
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard
from mmengine.config import DictAction
from mmengine.registry import init_default_scope

from mvp_mm.analysis.results import commit, config_hash, file_hash, hardware
from mvp_mm.apis.model_card import model_card
from mvp_mm.apis.published import save_published
from mvp_mm.engine.checkpoint import load_whole
from mvp_mm.engine.config_loading import load_config
from mvp_mm.engine.replaced_weights import build_model
from mvp_mm.utils.atomic import write_text
from mvp_mm.utils.checkpoint_io import read_checkpoint
from mvp_mm.utils.named_weights import WEIGHTS


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
    parser.add_argument('--trained-on', help='hardware of the training')
    parser.add_argument('--seed', type=int, help='seed of the training; default as in the '
                        'checkpoint or the config')
    parser.add_argument('--steps', type=int, help='steps of the training')
    parser.add_argument('--things', nargs='+', default=[], help='things that it was trained on')
    parser.add_argument('--stuff', nargs='+', default=[], help='stuff that it was trained on')
    parser.add_argument('--license', help='licence of the weights, such as apache-2.0')
    parser.add_argument('--data', nargs='+', default=[], help='names of the training data')
    parser.add_argument('--results', type=Path, help='result file that the card shows')
    parser.add_argument('--variant', default='thinking', help='variant in the result file')
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
        state = checkpoint['state_dict']
        model = load_whole(build_model(cfg.model, state), state, args.checkpoint)
        if args.half:
            model.half()
        if args.replace and (args.out / 'origin.json').is_file():
            shutil.rmtree(args.out)
        classes = {**dict.fromkeys(args.things, True), **dict.fromkeys(args.stuff, False)}
        card = make_card(args, cfg, model)
        save_published(args.out, model, cfg, classes)
    except (OSError, ValueError) as error:
        sys.exit(f'publish_model: error: {error}')
    write_text(args.out / 'origin.json', json.dumps(origin(args, cfg, checkpoint), indent=1) + '\n')
    write_text(args.out / 'README.md', str(card))
    size = sum(file.stat().st_size for file in args.out.rglob('*') if file.is_file())
    print(f'{size / 1e6:.1f} MB written to {args.out}')


def make_card(args: argparse.Namespace, cfg: Any, model: torch.nn.Module) -> ModelCard:
    """Make the model card, with the figures that are measured.

    Raises:
        ValueError: If the result file holds no figures.
    """
    size = sum(parameter.numel() for parameter in model.parameters())
    with tempfile.TemporaryDirectory() as folder:
        metrics = None
        if args.results is not None:
            variants = json.loads(args.results.read_text())['figures']
            shown = variants[args.variant]
            metrics = Path(folder, 'metrics.json')
            # The parts by kind of expression stand in the result file alone.
            metrics.write_text(json.dumps({
                f'{dataset}/{name}': value for dataset, found in shown.items()
                for name, value in found.items() if name.count('/') == 1}))
        return model_card(args.out.name, cfg, size, license=args.license, datasets=args.data,
                          metrics=metrics)


def origin(args: argparse.Namespace, cfg: Any, checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Say what made the weights."""
    meta = checkpoint['meta']
    made = dict(commit=args.commit, changed=None) if args.commit else commit()
    seed = meta.get('seed', cfg.get('randomness', {}).get('seed'))
    return dict(
        command=args.made_by, **made, seed=seed if args.seed is None else args.seed,
        trained_on=args.trained_on,
        config=dict(file=args.config, sha256=config_hash(cfg)),
        steps=args.steps or meta.get('iter'),
        dtype='float16' if args.half else str(torch.float32).removeprefix('torch.'),
        sha256=file_hash(args.out / WEIGHTS), published_on=hardware())


if __name__ == '__main__':
    main()
