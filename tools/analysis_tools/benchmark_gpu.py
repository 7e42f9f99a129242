# Copyright (c) mvp_mm authors. All rights reserved.
"""Take all speed figures of a config's model on one GPU and write them as JSON.

Random weights and made-up batches: no data, weights or tokenizer are read. Sections come in the
order of their value; none starts when the time is over, and one that fails is noted.

Examples::

    python tools/analysis_tools/benchmark_gpu.py --seconds 200 --out work_dirs/gpu_figures.json
    python tools/analysis_tools/benchmark_gpu.py --tiny
"""
from __future__ import annotations

import argparse
import gc
import platform
import subprocess
import time
from pathlib import Path

import torch

from mvp_mm.analysis.answer_figures import AnswerFigures
from mvp_mm.analysis.gpu_figures import Figures
from mvp_mm.analysis.results import command_line
from mvp_mm.analysis.synthetic_batch import canvas_side, make_samples
from mvp_mm.analysis.training_figures import TrainingFigures
from mvp_mm.analysis.training_step import MadeUpStep
from mvp_mm.engine.config_loading import load_config
from mvp_mm.engine.launch import config_errors_in_one_line

PARTS = ('answers', 'training', 'thinking')
FULL, TINY = 'configs/mvplm/stage2.py', 'configs/mvplm/tiny/stage2.py'


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', nargs='?', help=f'config file; default: {FULL}')
    parser.add_argument('--seconds', type=float, default=300,
                        help='no section starts later (default 300)')
    parser.add_argument('--images', type=int, default=8, help='images per step (default 8)')
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=PARTS,
                        help='what is measured (default: all)')
    parser.add_argument('--tokens', type=int, default=64,
                        help='tokens of a written response (default 64)')
    parser.add_argument('--peak-tflops', type=float, default=989,
                        help="the device's bfloat16 operations per second in 10^12 (default 989)")
    parser.add_argument('--tiny', action='store_true',
                        help='a tiny model on the CPU, to try the command')
    parser.add_argument('--out', default='work_dirs/gpu_figures.json', help='JSON file')
    args = parser.parse_args()
    args.config = args.config or (TINY if args.tiny else FULL)
    if not args.tiny and not torch.cuda.is_available():
        parser.error('there is no CUDA device; --tiny tries the command on the CPU')
    for name in ('seconds', 'images', 'tokens', 'peak_tflops'):
        if getattr(args, name) <= 0:
            parser.error(f'--{name.replace("_", "-")} must be positive')
    return args


def surroundings(args: argparse.Namespace) -> dict[str, str]:
    """Device, versions, commit and config."""
    git = subprocess.run(['git', 'rev-parse', 'HEAD'], capture_output=True, text=True, check=False,
                         cwd=Path(__file__).parent)
    stored = Path(__file__).resolve().parents[2] / 'COMMIT'
    commit = git.stdout.strip() or (stored.read_text().strip() if stored.is_file() else 'unknown')
    device = 'CPU' if args.tiny else torch.cuda.get_device_name(0)
    return dict(device=device, torch=torch.__version__, python=platform.python_version(),
                commit=commit, config=args.config, images=str(args.images), command=command_line())


def take_fast_answers(figures: Figures, fast: AnswerFigures, counts: tuple[int, ...]) -> None:
    """Answers of a model with graphs and low precision."""
    for count in counts:
        figures.section(f'answers fast, batch {count}', lambda n=count: fast.time(n))
    figures.section('further question, fast', fast.time_further_question)
    for count in counts:
        figures.section(f'thinking fast, batch {count}', lambda n=count: fast.time(n, True))
        figures.section(f'token fast, batch {count}', lambda n=count: fast.time_tokens(n))
    for count in counts:
        figures.section(f'parts fast, batch {count}', lambda n=count: fast.time_parts(n))
    figures.section('profile of answers fast, batch 1', lambda: fast.profile(1))


def take_answers(figures: Figures, plain: AnswerFigures, counts: tuple[int, ...]) -> None:
    """Answers of the plain model, with graphs and low precision, with graphs alone."""
    for count in counts:
        figures.section(f'answers plain, batch {count}', lambda n=count: plain.time(n))
    figures.section('parts plain, batch 1', lambda: plain.time_parts(1))
    kept: list[AnswerFigures] = []

    def accelerate(low_precision: bool) -> dict:
        kept.append(plain.accelerated(low_precision, graphs=True))
        return dict(parity=plain.parity(kept[-1]))

    figures.section('fast: parity', lambda: accelerate(True))
    if kept:
        take_fast_answers(figures, kept.pop(), counts)
    figures.section('graphs alone: parity', lambda: accelerate(False))
    if kept:
        figures.section('answers graphs alone, batch 1', lambda: kept.pop().time(1))
    figures.section('further question, plain', plain.time_further_question)


def take_training(figures: Figures, training: TrainingFigures, args: argparse.Namespace,
                  side: int) -> None:
    """Steps as configured, then with each acceleration on top of those before."""
    model = training.step.model
    backend = 'aot_eager' if args.tiny else 'inductor'
    figures.section('step plain: operations', training.count_operations)
    figures.section('step plain', training.time)
    figures.section('step plain: waits', training.waits)
    figures.section('step tf32, captured encoder', lambda: training.accelerated((), backend))
    figures.section('step + bf16 weights', lambda: training.with_llm(True, False))
    figures.section('step + compiled LLM', lambda: training.accelerated(('llm',), backend), 30)
    figures.section('step + compiled pixel decoder',
                    lambda: training.accelerated(('llm', 'pixel_decoder'), backend), 25)
    figures.section('profile of the accelerated step', training.profile, 15)
    figures.section('step accelerated, little memory', training.with_little_memory, 15)
    figures.section('step accelerated, decoders recomputed, not the LLM',
                    lambda: training.with_little_memory(keep_llm=True), 15)
    figures.section('step accelerated, without checkpointing', training.without_checkpointing, 20)
    figures.section('step accelerated, sequence packing',
                    lambda: training.with_llm(True, True), 25)
    training.without_packing()
    figures.section('step accelerated: waits', training.waits)
    visual, vocabulary = model.tokenizer.num_visual_tokens, model.llm.vocab_size
    batches = dict(
        panoptic=make_samples(args.images, 0, side, visual, vocabulary, 133),
        referring=make_samples(args.images, 1, side, visual, vocabulary, 12)[1::2],
        detection=make_samples(args.images, 0, side, visual, vocabulary, 100))
    for sample in batches['detection']:
        del sample.gt_instances.masks
        sample.instruction.use_stuff_queries = False
    for name, samples in batches.items():
        for sample in samples:
            sample.gt_instances = sample.gt_instances.to(training.device)
        figures.section(f'step accelerated, {name}',
                        lambda samples=samples: training.with_samples(samples), 12)
    figures.section('step + compiled decoder', lambda: training.accelerated(
        ('llm', 'pixel_decoder', 'decoder'), backend), 60)
    training.plain()
    figures.section('same bits twice', training.repeats, 12)


def main() -> None:
    """Take the figures."""
    args = parse_args()
    figures = Figures(Path(args.out), time.monotonic() + args.seconds)
    figures.section('surroundings', lambda: surroundings(args), 0)
    with config_errors_in_one_line('benchmark_gpu'):
        cfg = load_config(args.config)
    device = torch.device('cpu' if args.tiny else 'cuda')
    images = min(args.images, 2) if args.tiny else args.images
    words = 12 if args.tiny else 133
    start = time.monotonic()
    step = MadeUpStep.build(cfg, images, 2, words, torch.bfloat16, device)
    figures.section('built', lambda: dict(seconds=round(time.monotonic() - start, 1)), 0)
    side, times = canvas_side(cfg), 2 if args.tiny else 8
    tokens = min(args.tokens, 16) if args.tiny else args.tokens
    args.images = images
    step.model.eval()
    plain = AnswerFigures(step.model, side, torch.bfloat16, words, times, tokens)
    if 'answers' in args.parts:
        take_answers(figures, plain, (1, 2) if args.tiny else (1, 8))
    gc.collect()
    if not args.tiny:
        torch.cuda.empty_cache()
    step.model.train()
    if 'training' in args.parts:
        take_training(figures, TrainingFigures(step, args.peak_tflops * 1e12, times), args, side)
    step.model.eval()
    for count in (1, images) if 'thinking' in args.parts else ():
        figures.section(f'thinking plain, batch {count}', lambda n=count: plain.time(n, True), 10)
    print(f'written to {args.out}')


if __name__ == '__main__':
    main()
