# Copyright (c) mvp_mm authors. All rights reserved.
"""Time the training step of a config's model, part by part, on made-up tensors.

No data, weights or tokenizer are read. The compiled CPU kernel of deformable attention is then
timed against mmcv's torch version on the shapes of the pixel decoder.

Example::

    python tools/analysis_tools/benchmark.py configs/mvplm/tiny/stage2.py --images 8 --threads 1
"""
from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from made_up import canvas_side, make_samples
from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
from mmengine.config import Config, DictAction
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from mvp_mm.models import MVPLM
from mvp_mm.models.language import language_loss
from mvp_mm.models.losses import Targets, over_processes
from mvp_mm.models.state import ImageState, InstructionBatch
from mvp_mm.ops.cpu_kernel import load_kernel
from mvp_mm.ops.deformable_attention import sample_and_sum
from mvp_mm.registry import MODELS
from mvp_mm.structures import PerceptionDataSample


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file')
    parser.add_argument('--images', type=int, help='images a step; default: as in the config')
    parser.add_argument('--sentences', type=int, default=2,
                        help='sentences an image, beside its word list (default 2)')
    parser.add_argument('--threads', type=int, help="CPU threads; default: torch's choice")
    parser.add_argument('--steps', type=int, default=10, help='timed steps (default 10)')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
                        help='settings to override')
    args = parser.parse_args()
    if not Path(args.config).is_file():
        sys.exit(f'benchmark: error: config not found: {args.config}')
    for name in ('images', 'threads', 'steps'):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f'--{name} must be at least 1, got {value}')
    return args


class Stopwatch:
    """Collects the seconds of named parts, one value a step."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def _now(self) -> float:
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        start = self._now()
        yield
        self.seconds[name].append(self._now() - start)


def forward_parts(model: MVPLM, images: torch.Tensor, samples: list[PerceptionDataSample],
                  watch: Stopwatch) -> torch.Tensor:
    """The forward pass of :meth:`MVPLM.loss`, timed part by part; returns the total loss."""
    with watch.part('encoder'):
        features = model.encoder(images)
    with watch.part('connector'):
        visual = model.connector(features[-1])
    state = ImageState(visual)
    if model.perception_trains:
        with watch.part('pixel decoder'):
            extent = torch.ones(len(images), 2, device=images.device)
            state = ImageState(visual, **model.pixel_decoder(features, extent))
    with watch.part('LLM'):
        batch = InstructionBatch.collate(samples, images.device, with_response=True)
        hidden, language = model.read(state, batch)
        means = dict(loss_llm=language_loss(model.llm, hidden, batch.labels))
    if model.perception_trains:
        with watch.part('perception head and losses'):
            targets = Targets.collate(samples, batch, tuple(images.shape[-2:]))
            means.update(model.perception.loss(
                state, batch, language.text, language.summary, targets))
    return model.parse_losses(over_processes(means))[0]


def time_steps(cfg: Config, args: argparse.Namespace, device: torch.device) -> None:
    """Time training steps and print the median of every part."""
    init_default_scope(cfg.get('default_scope', 'mvp_mm'))
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).to(device).train()
    # In place of the tokenizer's, so that no tokenizer is needed.
    model.per_id = model.llm.vocab_size - 1
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    side, visual_tokens = canvas_side(cfg), cfg.model.tokenizer.num_visual_tokens
    count = args.images or cfg.train_dataloader.batch_size
    samples = make_samples(count, args.sentences, side, visual_tokens, model.llm.vocab_size)
    images = torch.randn(count, 3, side, side, device=device)
    print(f'{args.config}: {count} images of {side} x {side}, {len(samples)} instructions, '
          f'{device}, {torch.get_num_threads()} threads, median of {args.steps} steps')

    watch = Stopwatch(device)
    for step in range(args.steps + 2):
        if step == 2:  # the first steps allocate memory and warm caches
            watch.seconds.clear()
        total = forward_parts(model, images, samples, watch)
        with watch.part('backward'):
            optimizer.backward(total)
        with watch.part('optimizer'):
            optimizer.step()
            optimizer.zero_grad()
    medians = {name: statistics.median(values) for name, values in watch.seconds.items()}
    whole = sum(medians.values())
    for name, value in medians.items():
        print(f'  {name:<28}{1000 * value:>10.1f} ms{100 * value / whole:>7.1f} %')
    print(f'  {"step":<28}{1000 * whole:>10.1f} ms{count / whole:>9.2f} images/s')


def time_kernel(cfg: Config, args: argparse.Namespace) -> None:
    """Time the CPU kernel against mmcv's torch version, one pixel decoder layer's attention."""
    if load_kernel() is None:
        print('deformable attention on the CPU: the kernel is not built, nothing to compare')
        return
    decoder = cfg.model.pixel_decoder
    heads, points = decoder.get('num_heads', 8), decoder.get('num_points', 4)
    sizes = [(math.ceil(canvas_side(cfg) / stride),) * 2 for stride in (8, 16, 32, 64)]
    shapes = torch.tensor(sizes)
    areas = shapes.prod(1)
    starts = torch.cat([areas.new_zeros(1), areas.cumsum(0)[:-1]])
    batch, tokens = args.images or cfg.train_dataloader.batch_size, int(areas.sum())
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(
        batch, tokens, heads, cfg.model.embed_dims // heads, generator=generator)
    locations = torch.rand(batch, tokens, heads, len(sizes), points, 2, generator=generator)
    weights = torch.rand(batch, tokens, heads, len(sizes), points, generator=generator)
    weights = weights / weights.sum((-2, -1), keepdim=True)
    leaves = [x.requires_grad_() for x in (value, locations, weights)]

    def ours() -> torch.Tensor:
        return sample_and_sum(value, shapes, starts, locations, weights)

    def mmcv() -> torch.Tensor:
        return multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)

    watch = Stopwatch(torch.device('cpu'))
    for step in range(args.steps + 1):
        if step == 1:
            watch.seconds.clear()
        # In turns, so that other work on the machine slows both alike.
        for name, function in (('kernel', ours), ('mmcv', mmcv)):
            with watch.part(f'{name} forward'):
                out = function()
            with watch.part(f'{name} backward'):
                torch.autograd.grad(out.square().sum(), leaves)
    with torch.no_grad():
        gap = float((ours() - mmcv()).abs().max())
    print(f'deformable attention on the CPU: {batch} x {tokens} tokens, {heads} heads, '
          f'{len(sizes)} levels, {points} points; largest difference {gap:.1e}')
    medians = {name: statistics.median(values) for name, values in watch.seconds.items()}
    for name in ('forward', 'backward'):
        fast, slow = medians[f'kernel {name}'], medians[f'mmcv {name}']
        print(f'  {name:<10}kernel {1000 * fast:>9.1f} ms   mmcv {1000 * slow:>9.1f} ms   '
              f'ratio {slow / fast:.2f}')


def main() -> None:
    """Benchmark."""
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    time_steps(cfg, args, torch.device(args.device))
    time_kernel(cfg, args)


if __name__ == '__main__':
    main()
