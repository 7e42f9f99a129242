# Copyright (c) mvp_mm authors. All rights reserved.
"""Count the parameters, operations and seconds of a config's model, part by part.

One image with one word list goes through the model once, with made-up tokens; no data, weights or
tokenizer are read. An addition and a multiplication are two operations. Matrix products,
convolutions and attention are counted, the sampling of deformable attention is not.

Example::

    python tools/analysis_tools/get_flops.py configs/mvplm/stage2.py --words 133
"""
from __future__ import annotations

import argparse
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import DictAction
from mmengine.registry import init_default_scope
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mvp_mm.analysis.synthetic_batch import canvas_side, make_samples
from mvp_mm.analysis.training_step import forget_weights
from mvp_mm.engine.config_loading import load_config
from mvp_mm.engine.launch import config_errors_in_one_line
from mvp_mm.models import MVPLM
from mvp_mm.registry import MODELS


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file')
    parser.add_argument('--words', type=int, default=133, help='names in the list (default 133)')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
                        help='settings to override')
    args = parser.parse_args()
    if not Path(args.config).is_file():
        sys.exit(f'get_flops: error: config not found: {args.config}')
    if args.words < 1:
        parser.error(f'--words must be at least 1, got {args.words}')
    return args


def parameters(model: nn.Module) -> Counter[str]:
    """Parameters by part, shared ones once."""
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        counts[name.split('.')[0]] += parameter.numel()
    return counts


def operations(flops: FlopCounterMode, model: nn.Module) -> Counter[str]:
    """Operations by part.

    A part's own entry covers what is inside its forward; parts that are entered elsewhere are
    the sums of their children.
    """
    root = type(model).__name__
    totals = {name.removeprefix(f'{root}.'): sum(kinds.values())
              for name, kinds in flops.get_flop_counts().items()}
    counts: Counter[str] = Counter()
    for part, _ in model.named_children():
        if part in totals:
            counts[part] = totals[part]
            continue
        inside = [name for name in totals if name.startswith(f'{part}.')]
        counts[part] = sum(totals[name] for name in inside
                           if not any(name.startswith(f'{other}.') for other in inside))
    counts['elsewhere'] = flops.get_total_flops() - sum(counts.values())
    return counts


def watch(model: MVPLM) -> Counter[str]:
    """Seconds by part, counted from now on."""
    seconds: Counter[str] = Counter()

    def timed(function: Callable, part: str) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = function(*args, **kwargs)
            seconds[part] += time.perf_counter() - start
            return result

        return call

    for name, part in model.named_children():
        part.forward = timed(part.forward, name)
    model.perception.predict = timed(model.perception.predict, 'perception')
    return seconds


def main() -> None:
    """Count."""
    args = parse_args()
    with config_errors_in_one_line('get_flops'):
        cfg = load_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mvp_mm'))
    torch.manual_seed(0)
    forget_weights(cfg.model)
    model = MODELS.build(cfg.model).eval()
    # In place of the tokenizer's, so that no tokenizer is needed.
    model.per_id = model.llm.vocab_size - 1
    side = canvas_side(cfg)
    samples = make_samples(1, 0, side, cfg.model.tokenizer.num_visual_tokens,
                           model.llm.vocab_size, args.words)
    spent = watch(model)
    start = time.perf_counter()
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        model(torch.randn(1, 3, side, side), samples, mode='tensor')
    seconds = time.perf_counter() - start
    held, done = parameters(model), operations(flops, model)
    print(f'{args.config}: {side} x {side}, {args.words} names, '
          f'{len(samples[0].instruction.input_ids)} tokens')
    spent['elsewhere'] = seconds - sum(spent.values())
    print(f'  {"part":<16}{"parameters, M":>15}{"operations, G":>15}{"seconds":>10}')
    for part in sorted(held | done, key=lambda name: -done[name]):
        print(f'  {part:<16}{held[part] / 1e6:>15.4g}{done[part] / 1e9:>15.4g}'
              f'{spent[part]:>10.2f}')
    print(f'  {"all":<16}{sum(held.values()) / 1e6:>15.4g}{sum(done.values()) / 1e9:>15.4g}'
          f'{seconds:>10.2f}')
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f'  one forward pass in float32 took {seconds:.1f} s on {torch.get_num_threads()} '
          f'threads; the process held {peak:.1f} GiB at most')


if __name__ == '__main__':
    main()
