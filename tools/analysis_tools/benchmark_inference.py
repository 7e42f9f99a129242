# Copyright (c) mvp_mm authors. All rights reserved.
"""Time answers of a config's model to made-up word lists, with and without thinking.

No data, weights or tokenizer are read. Random weights hardly ever write ``<PER>`` on their own, so
that thinking writes as many tokens as the config allows.

Example::

    python tools/analysis_tools/benchmark_inference.py configs/mvplm/stage2.py --images 1 8 \\
        --dtype bfloat16
"""
from __future__ import annotations

import argparse
import statistics
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from torch import Tensor

from mvp_mm.analysis.synthetic_batch import canvas_side, make_samples
from mvp_mm.analysis.training_step import forget_weights
from mvp_mm.engine.config_loading import load_config
from mvp_mm.engine.launch import config_errors_in_one_line
from mvp_mm.models import MVPLM
from mvp_mm.models.state import InstructionBatch
from mvp_mm.registry import MODELS


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file')
    parser.add_argument('--images', type=int, nargs='+', default=[1, 8],
                        help='images at a time (default 1 8)')
    parser.add_argument('--words', type=int, default=133, help='names in the list (default 133)')
    parser.add_argument('--dtype', choices=('float32', 'bfloat16'), default='float32',
                        help='bfloat16 runs under autocast (default float32)')
    parser.add_argument('--threads', type=int, help="CPU threads; default: torch's choice")
    parser.add_argument('--steps', type=int, default=5, help='timed runs (default 5)')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
                        help='settings to override')
    args = parser.parse_args()
    if not Path(args.config).is_file():
        sys.exit(f'benchmark_inference: error: config not found: {args.config}')
    return args


def answer(model: MVPLM, images: Tensor, samples: list, thinking: bool) -> None:
    """From images to boxes, masks and similarities."""
    state = model.encode(images, samples)
    batch = InstructionBatch.collate(
        samples, images.device, None if thinking else model.per_id)
    if thinking:
        language = model.generate_then_read(state, batch)
    else:
        _, language = model.forward_llm(state, batch)
    model.perception.predict(state, batch, language.text, language.summary)


def time_answers(model: MVPLM, cfg: Config, args: argparse.Namespace, count: int,
                 context: Any) -> None:
    """Time one number of images and print a line for each way to answer."""
    device, side = torch.device(args.device), canvas_side(cfg)
    samples = make_samples(count, 0, side, cfg.model.tokenizer.num_visual_tokens,
                           model.llm.vocab_size, args.words)
    images = torch.randn(count, 3, side, side, device=device)
    for thinking in (True, False):
        seconds = []
        for _ in range(args.steps + 1):
            start = time.perf_counter()
            with torch.no_grad(), context:
                answer(model, images, samples, thinking)
            if device.type == 'cuda':
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - start)
        median = statistics.median(seconds[1:])  # the first warms caches
        way = f'{model.max_response_tokens} tokens written' if thinking else 'nothing written'
        print(f'  {count:>3} images, {way:<24}{1000 * median:>10.1f} ms'
              f'{count / median:>9.2f} images/s')


def main() -> None:
    """Benchmark."""
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    with config_errors_in_one_line('benchmark_inference'):
        cfg = load_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mvp_mm'))
    torch.manual_seed(0)
    forget_weights(cfg.model)
    model = MODELS.build(cfg.model).to(args.device).eval()
    # In place of the tokenizer's, so that no tokenizer is needed.
    model.per_id = model.llm.vocab_size - 1
    model.ending = [*range(5), model.per_id]
    model.tokenizer = SimpleNamespace(
        eos_id=model.llm.vocab_size - 2, vocab_size=model.llm.vocab_size,
        num_visual_tokens=cfg.model.tokenizer.num_visual_tokens)
    context = (torch.autocast(torch.device(args.device).type, torch.bfloat16)
               if args.dtype == 'bfloat16' else nullcontext())
    print(f'{args.config}: {args.words} names, {args.dtype}, {args.device}, median of '
          f'{args.steps}')
    for count in args.images:
        time_answers(model, cfg, args, count, context)


if __name__ == '__main__':
    main()
