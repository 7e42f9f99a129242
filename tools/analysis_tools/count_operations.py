# Copyright (c) mvp_mm authors. All rights reserved.
"""Count the operations that a training step dispatches, part by part, on the CPU.

A step on a fast GPU is bound by their number. It does not depend on widths, so by default the
model is made narrow, with all its layers, and the canvas small; no data, weights or tokenizer are
read. Steps that set up the optimizer's state and compile regions are taken before the one that is
counted.

Examples::

    python tools/analysis_tools/count_operations.py configs/mvplm/stage2.py --images 8
    python tools/analysis_tools/count_operations.py configs/mvplm/stage2.py --capture-encoder \
        --compile llm pixel_decoder decoder heads
"""
from __future__ import annotations

import argparse

import torch

from mvp_mm.analysis.operations import table
from mvp_mm.analysis.single_calls import SingleCalls
from mvp_mm.analysis.step_arguments import add_step_arguments, parse_step
from mvp_mm.analysis.training_step import NARROW, MadeUpStep
from mvp_mm.engine.config_loading import load_config
from mvp_mm.engine.launch import config_errors_in_one_line
from mvp_mm.models.acceleration.training import REGIONS

# Regions are compiled for one length, then for all.
WARM_UP = 3


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_step_arguments(parser, 'config file of a Swin and Phi model')
    parser.add_argument('--dtype', choices=['bfloat16', 'float32'], default='bfloat16',
                        help='autocast to it (default bfloat16)')
    parser.add_argument('--full-width', action='store_true',
                        help="the config's own widths and canvas, for the bytes")
    parser.add_argument('--compile', nargs='+', choices=REGIONS, default=(),
                        help='count these regions as compiled: one operation per call')
    parser.add_argument('--capture-encoder', action='store_true',
                        help='count the frozen encoder as one captured graph')
    return parse_step(parser)


def main() -> None:
    """Count."""
    args = parse_args()
    with config_errors_in_one_line('count_operations'):
        cfg = load_config(args.config, args.cfg_options)
    if not args.full_width:
        cfg.merge_from_dict(NARROW)
    dtype = torch.bfloat16 if args.dtype == 'bfloat16' else None
    step = MadeUpStep.build(cfg, args.images, args.sentences, args.words, dtype)
    calls = None
    if args.compile or args.capture_encoder:
        calls = SingleCalls(step.model, args.compile, args.capture_encoder)
    for _ in range(WARM_UP if calls else 1):
        step.run()
    counter = step.count(calls)
    print(f'{args.config}: {args.images} images, {len(step.samples)} instructions, {args.dtype}\n')
    print(table(counter.parts, counter.total))
    if calls:
        print(f'\nInside calls that count as one: {counter.inside.dispatched} operations')


if __name__ == '__main__':
    main()
