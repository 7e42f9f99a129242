# Copyright (c) mvp_mm authors. All rights reserved.
"""Time the training step of a config's model, part by part, on made-up tensors.

No data, weights or tokenizer are read. The parts are timed one after the other; on CUDA each is
waited for, which hides overlap. Whole steps without waiting follow: images a second, memory, and
the share of the device's arithmetic that the counted operations take.

Examples::

    python tools/analysis_tools/benchmark.py configs/mvplm/tiny/stage2.py --images 8 --threads 1
    python tools/analysis_tools/benchmark.py configs/mvplm/stage2.py --images 8 --words 133 \\
        --dtype bfloat16 --peak-tflops 989 --profile work_dirs/profile.txt
"""
from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.config import DictAction
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from mvp_mm.analysis.training_step import MadeUpStep
from mvp_mm.engine.config_loading import load_config
from mvp_mm.engine.launch import config_errors_in_one_line
from mvp_mm.models import MVPLM
from mvp_mm.models.connectors import connect
from mvp_mm.models.language import language_loss
from mvp_mm.models.losses import ImageShares, Targets, reduce_over_ranks
from mvp_mm.models.state import ImageState, InstructionBatch
from mvp_mm.structures import PerceptionDataSample


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file')
    parser.add_argument('--images', type=int, help='images a step; default: as in the config')
    parser.add_argument('--sentences', type=int, default=2,
                        help='sentences an image, beside its word list (default 2)')
    parser.add_argument('--words', type=int, default=12,
                        help="names in an image's list (default 12)")
    parser.add_argument('--dtype', choices=('float32', 'bfloat16'), default='float32',
                        help='bfloat16 runs under autocast (default float32)')
    parser.add_argument('--peak-tflops', type=float,
                        help="the device's operations a second in that type, in 10^12")
    parser.add_argument('--profile', metavar='FILE',
                        help='also write the ten operations that take longest')
    parser.add_argument('--threads', type=int, help="CPU threads; default: torch's choice")
    parser.add_argument('--steps', type=int, default=10, help='timed steps (default 10)')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
                        help='settings to override')
    args = parser.parse_args()
    if not Path(args.config).is_file():
        sys.exit(f'benchmark: error: config not found: {args.config}')
    for name in ('images', 'threads', 'steps', 'words'):
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
        visual = connect(model.connector, features)
    state = ImageState(visual)
    if model.perception_trains:
        with watch.part('pixel decoder'):
            extent = torch.ones(len(images), 2, device=images.device)
            state = ImageState(visual, **model.pixel_decoder(features, extent))
    with watch.part('LLM'):
        batch = InstructionBatch.collate(samples, images.device, model.per_id)
        hidden, language = model.forward_llm(state, batch)
        means = dict(loss_llm=language_loss(
            model.llm, hidden, batch.labels, ImageShares.of(batch.image_index, len(images))))
    if model.perception_trains:
        with watch.part('perception head and losses'):
            targets = Targets.collate(samples, batch, tuple(images.shape[-2:]))
            means.update(model.perception.loss(
                state, batch, language.text, language.summary, targets))
    return model.parse_losses(reduce_over_ranks(means))[0]


def time_parts(bench: MadeUpStep, args: argparse.Namespace, device: torch.device) -> None:
    """Time training steps and print the median of every part."""
    watch = Stopwatch(device)
    for step in range(args.steps + 2):
        if step == 2:  # the first steps allocate memory and warm caches
            watch.seconds.clear()
        with bench.autocast():
            total = forward_parts(bench.model, bench.images, bench.samples, watch)
        with watch.part('backward'):
            bench.optimizer.backward(total)
        with watch.part('optimizer'):
            bench.optimizer.step()
            bench.optimizer.zero_grad()
    medians = {name: statistics.median(values) for name, values in watch.seconds.items()}
    whole = sum(medians.values())
    for name, value in medians.items():
        print(f'  {name:<28}{1000 * value:>10.1f} ms{100 * value / whole:>7.1f} %')
    print(f'  {"sum":<28}{1000 * whole:>10.1f} ms{len(bench.images) / whole:>9.2f} images/s')


def time_whole(bench: MadeUpStep, args: argparse.Namespace, device: torch.device) -> None:
    """Time whole steps; count their memory and operations."""
    on_cuda = device.type == 'cuda'
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(device)
    watch = Stopwatch(device)
    with watch.part('steps'):
        for _ in range(args.steps):
            bench.run()
    seconds = watch.seconds['steps'][0] / args.steps
    print(f'  {"whole steps":<28}{1000 * seconds:>10.1f} ms'
          f'{len(bench.images) / seconds:>9.2f} images/s')
    held = (torch.cuda.max_memory_allocated(device) if on_cuda
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10)
    print(f'  at most {held / 2**30:.1f} GiB held')
    with FlopCounterMode(display=False) as flops:
        bench.run()
    rate = flops.get_total_flops() / seconds / 1e12
    print(f'  {flops.get_total_flops() / 1e12:.3g} x 10^12 operations a step, recomputed ones '
          f'included; {rate:.3g} x 10^12 a second')
    if args.peak_tflops:
        print(f'  {100 * rate / args.peak_tflops:.1f} % of {args.peak_tflops:g} x 10^12')


def write_profile(bench: MadeUpStep, args: argparse.Namespace, device: torch.device) -> None:
    """Profile one step and write the ten operations that take longest."""
    kinds = [ProfilerActivity.CPU]
    kinds += [ProfilerActivity.CUDA] * (device.type == 'cuda')
    with profile(activities=kinds) as found:
        bench.run()
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
    target = Path(args.profile)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(found.key_averages().table(
        sort_by=f'self_{device.type}_time_total', row_limit=10))
    print(f'  profile written to {target}')


def main() -> None:
    """Benchmark."""
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    with config_errors_in_one_line('benchmark'):
        cfg = load_config(args.config, args.cfg_options)
    device = torch.device(args.device)
    dtype = None if args.dtype == 'float32' else torch.bfloat16
    bench = MadeUpStep.build(cfg, args.images, args.sentences, args.words, dtype, device)
    print(f'{args.config}: {len(bench.images)} images of {bench.images.shape[-1]} x '
          f'{bench.images.shape[-1]}, {len(bench.samples)} instructions, {args.dtype}, {device}, '
          f'{torch.get_num_threads()} threads, {args.steps} steps')
    time_parts(bench, args, device)
    time_whole(bench, args, device)
    if args.profile:
        write_profile(bench, args, device)


if __name__ == '__main__':
    main()
