# Copyright (c) mvp_mm authors. All rights reserved.
"""Tell what training recipes take: memory, arithmetic, images per second, hours on one GPU.

Made-up images and instructions, random weights: no files are read. On a CPU memory and arithmetic
are counted, and the hours follow from a share of the GPU's peak, by default the one that was
measured with the full-size model (results/gpu.json). With ``--gpu`` steps are timed as well, at
each recipe's own batch size, and the hours follow from that.

Example::

    python tools/analysis_tools/measure_recipes.py configs/mvplm/small/*_*_*.py \
        --out results/small_recipes.json
"""
from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from mvp_mm.analysis.recipe_figures import count_recipe, hours, measure_recipe
from mvp_mm.analysis.results import write_result
from mvp_mm.engine.config_loading import load_config
from mvp_mm.engine.launch import config_errors_in_one_line


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('configs', nargs='+', type=Path, help='training configs')
    parser.add_argument('--out', type=Path, required=True, help='result file to write')
    parser.add_argument('--gpu', action='store_true', help='time steps on the GPU as well')
    parser.add_argument('--peak-tflops', type=float, default=989,
                        help="the GPU's bfloat16 operations per second in 10^12 (default 989)")
    parser.add_argument('--share', type=float, help='percent of the peak that a step reaches; '
                        'default: as measured in results/gpu.json')
    args = parser.parse_args()
    if args.gpu and not torch.cuda.is_available():
        parser.error('--gpu: there is no CUDA device')
    return args


def main() -> None:
    """Measure and write."""
    args = parse_args()
    start = time.monotonic()
    share = args.share
    if share is None:
        path = Path('results/gpu.json')
        if not path.is_file():
            sys.exit(f'measure_recipes: error: {path} not found; give --share')
        share = json.loads(path.read_text())['figures']['training']['step plain']['percent_of_peak']
    figures: dict[str, Any] = {}
    for path in args.configs:
        with config_errors_in_one_line('measure_recipes'):
            cfg = load_config(path)
        counted: dict[str, Any] = count_recipe(lambda path=path: load_config(path))
        counted['total_batch_size'] = cfg.total_batch_size
        counted['computed'] = hours(counted, share / 100 * args.peak_tflops * 1e12)
        if args.gpu:
            measured = measure_recipe(cfg, args.peak_tflops * 1e12)
            done = counted['steps'] * cfg.total_batch_size
            measured['hours'] = done / measured['images_per_second'] / 3600
            counted['measured'] = measured
            torch.cuda.empty_cache()
        figures[path.stem] = counted
        print(f'{path.stem}: {json.dumps(counted)}', flush=True)
        gc.collect()
    settings = dict(peak_tflops=args.peak_tflops, percent_of_peak=share)
    write_result(args.out, figures, settings=settings, seconds=time.monotonic() - start)
    print(f'written to {args.out}')


if __name__ == '__main__':
    main()
