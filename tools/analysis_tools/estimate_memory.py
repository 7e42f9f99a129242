# Copyright (c) mvp_mm authors. All rights reserved.
"""Compute the memory of a training step at full size, on the CPU, without data or weights.

Example::

    python tools/analysis_tools/estimate_memory.py configs/mvplm/stage2.py --images 8
"""
from __future__ import annotations

import argparse

from mmengine.config import DictAction
from mmengine.registry import init_default_scope

from mvp_mm.analysis.memory import step_memory
from mvp_mm.engine.config_loading import load_config
from mvp_mm.engine.launch import config_errors_in_one_line


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file of a model that trains with AdamW')
    parser.add_argument('--images', type=int, default=8, help='images (default 8)')
    parser.add_argument('--sentences', type=int, default=2,
                        help='sentences per image, beside one word list (default 2)')
    parser.add_argument('--words', type=int, default=133,
                        help='names in the word list (default 133)')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={},
                        metavar='KEY=VALUE', help='settings to override')
    args = parser.parse_args()
    for name in ('images', 'words'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} must be at least 1, got {getattr(args, name)}')
    if args.sentences < 0:
        parser.error(f'--sentences must not be negative, got {args.sentences}')
    return args


def main() -> None:
    """Compute."""
    args = parse_args()
    with config_errors_in_one_line('estimate_memory'):
        cfg = load_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mvp_mm'))
    memory = step_memory(cfg, args.images, args.sentences, args.words)
    print(f'{args.config}: {args.images} images, bfloat16 autocast\n')
    print('| held | GiB |\n|---|---|')
    for name, size in vars(memory).items():
        print(f'| {name} | {size / 2**30:.2f} |')


if __name__ == '__main__':
    main()
