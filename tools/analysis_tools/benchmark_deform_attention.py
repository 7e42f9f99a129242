# Copyright (c) mvp_mm authors. All rights reserved.
"""Check and time the kernel of deformable attention against mmcv's torch version, in turns.

On the CPU the kernel is ours, on CUDA mmcv's. The shapes are those of the config's pixel decoder.

Example::

    python tools/analysis_tools/benchmark_deform_attention.py configs/mvplm/stage2.py --images 1
"""
from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path

import torch
from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
from mmengine.config import Config
from torch import Tensor

from mvp_mm.analysis.synthetic_batch import canvas_side
from mvp_mm.engine.config_loading import load_config
from mvp_mm.engine.launch import config_errors_in_one_line
from mvp_mm.ops.cpu_kernel import load_kernel
from mvp_mm.ops.deformable_attention import sample_and_sum


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file')
    parser.add_argument('--images', type=int, default=1, help='images (default 1)')
    parser.add_argument('--threads', type=int, help="CPU threads; default: torch's choice")
    parser.add_argument('--steps', type=int, default=10, help='timed steps (default 10)')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    args = parser.parse_args()
    if not Path(args.config).is_file():
        sys.exit(f'benchmark_deform_attention: error: config not found: {args.config}')
    if args.device == 'cpu' and load_kernel() is None:
        sys.exit('benchmark_deform_attention: error: the CPU kernels are not built; see '
                 'python -m mvp_mm.ops.cpu_kernel')
    return args


def make_inputs(cfg: Config, images: int, device: str) -> tuple[Tensor, ...]:
    """Value, shapes, starts, locations and weights of one layer."""
    decoder = cfg.model.pixel_decoder
    heads, points = decoder.get('num_heads', 8), decoder.get('num_points', 4)
    sizes = [(math.ceil(canvas_side(cfg) / stride),) * 2 for stride in (8, 16, 32, 64)]
    shapes = torch.tensor(sizes)
    areas = shapes.prod(1)
    starts = torch.cat([areas.new_zeros(1), areas.cumsum(0)[:-1]])
    tokens = int(areas.sum())
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(
        images, tokens, heads, cfg.model.embed_dims // heads, generator=generator)
    grid = (images, tokens, heads, len(sizes), points)
    # Some points lie outside.
    locations = torch.rand(*grid, 2, generator=generator) * 1.1 - 0.05
    weights = torch.rand(grid, generator=generator).flatten(3).softmax(-1).view(grid)
    return tuple(x.to(device) for x in (value, shapes, starts, locations, weights))


def run(kernel: bool, inputs: tuple[Tensor, ...], dtype: torch.dtype, seconds: dict,
        ) -> list[Tensor]:
    """Output and gradients of one version, in float32; its times are added to ``seconds``."""
    value, shapes, starts, locations, weights = inputs
    leaves = [x.to(dtype).requires_grad_() for x in (value, locations, weights)]
    name = 'kernel' if kernel else 'torch'

    def now() -> float:
        if value.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    start = now()
    if kernel:
        out = sample_and_sum(leaves[0], shapes, starts, *leaves[1:])
    else:
        out = multi_scale_deformable_attn_pytorch(leaves[0], shapes, *leaves[1:])
    middle = now()
    gradients = torch.autograd.grad(out.float().square().sum(), leaves)
    seconds[f'{name} forward'].append(middle - start)
    seconds[f'{name} backward'].append(now() - middle)
    return [x.detach().float() for x in (out, *gradients)]


def compare(inputs: tuple[Tensor, ...], dtype: torch.dtype, steps: int) -> None:
    """Print differences from the float32 torch version, and times."""
    seconds: dict[str, list[float]] = defaultdict(list)
    exact = run(False, inputs, torch.float32, defaultdict(list))
    for step in range(steps + 1):
        if step == 1:
            seconds.clear()
        # In turns, so that other work on the machine slows both alike.
        found = run(True, inputs, dtype, seconds)
        run(False, inputs, dtype, seconds)
    print(f'{dtype}')
    for name, ours, theirs in zip(
            ('output', 'gradient of values', 'gradient of locations', 'gradient of weights'),
            found, exact, strict=True):
        gap = (ours - theirs).abs().max() / theirs.abs().max()
        print(f'  {name:<24}largest difference {gap:.1e} of the largest value')
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name in ('forward', 'backward'):
        fast, slow = medians[f'kernel {name}'], medians[f'torch {name}']
        print(f'  {name:<10}kernel {1000 * fast:>9.2f} ms   torch {1000 * slow:>9.2f} ms   '
              f'ratio {slow / fast:.2f}')


def main() -> None:
    """Compare."""
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    with config_errors_in_one_line('benchmark_deform_attention'):
        cfg = load_config(args.config)
    inputs = make_inputs(cfg, args.images, args.device)
    print(f'deformable attention on {args.device}: {tuple(inputs[3].shape)} locations, median '
          f'of {args.steps}')
    compare(inputs, torch.float32, args.steps)
    if args.device != 'cpu':
        compare(inputs, torch.float16, args.steps)


if __name__ == '__main__':
    main()
