# Copyright (c) mvp_mm authors. All rights reserved.
"""Compute the memory of a training step at full size, on the CPU, without data or weights.

Example::

    python tools/analysis_tools/estimate_memory.py configs/mvplm/stage2.py --images 8
"""
from __future__ import annotations

import argparse

from mmengine.registry import init_default_scope

from mvp_mm.analysis.memory import step_memory
from mvp_mm.analysis.step_arguments import add_step_arguments, parse_step
from mvp_mm.engine.config_loading import load_config
from mvp_mm.engine.launch import config_errors_in_one_line


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_step_arguments(parser, 'config file of a model that trains with AdamW')
    return parse_step(parser)


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
