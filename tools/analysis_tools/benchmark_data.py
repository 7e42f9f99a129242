# Copyright (c) mvp_mm authors. All rights reserved.
"""Time and weigh the data side: large annotation files, the training pipeline, instructions.

Examples::

    python tools/analysis_tools/make_large_annotations.py work_dirs/large.json
    python tools/analysis_tools/benchmark_data.py index work_dirs/large.json
    python tools/analysis_tools/benchmark_data.py pipeline configs/mvplm/stage2.py \\
        --coco data/coco --tokenizer checkpoints/phi-1_5
    python tools/analysis_tools/benchmark_data.py instruction configs/mvplm/stage2.py \\
        --coco data/coco --tokenizer checkpoints/phi-1_5

Speeds count processor time of one core, so that other work on the machine does not change them;
waiting for the disk is not in them. The wall-clock time is printed beside.
"""
from __future__ import annotations

import argparse
import os
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import torch
from torch.utils.data import DataLoader, Dataset

from mvp_mm.datasets import BoxDetectionDataset, PerceptionDataset, perception_collate
from mvp_mm.engine.config_loading import load_config
from mvp_mm.engine.launch import config_errors_in_one_line
from mvp_mm.registry import DATASETS
from mvp_mm.structures import ImageAnnotation

MB = 1e6


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest='command', required=True)
    index = commands.add_parser('index', help='open, weigh and read a box annotation file')
    index.add_argument('ann_file', help='COCO-style JSON with boxes')
    index.add_argument('--index-dir', help='folder for the index; default: beside the file')
    index.add_argument('--reads', type=int, default=20_000, help='random images read')
    index.add_argument('--workers', type=int, default=2, help='workers of each data loader')
    for name, text in (('pipeline', 'the training pipeline, step by step'),
                       ('instruction', 'building the instruction of an image')):
        command = commands.add_parser(name, help=text)
        command.add_argument('config', help='training config; its first data set is used')
        command.add_argument('--coco', required=True, help='root of COCO panoptic')
        command.add_argument('--split', default='train2017', help='default: train2017')
        command.add_argument('--tokenizer', required=True, help="tokenizer's folder")
        command.add_argument('--number', type=int, default=100, help='samples timed')
    return parser.parse_args()


class Clock:
    """Processor and wall-clock seconds since it was made."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def read(self) -> tuple[float, float]:
        """Processor time and wall-clock time in seconds."""
        return time.process_time() - self._cpu, time.perf_counter() - self._wall


class OwnMemory(Dataset):
    """Reads an item of a data set and tells now and then what its process has for itself.

    Args:
        dataset: The data set.
    """

    interval = 500  # items between two looks, which take longer than reading

    def __init__(self, dataset: PerceptionDataset) -> None:
        self.dataset = dataset
        self.count = 0

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, idx: int) -> tuple[int, int]:
        """The process and its private memory in bytes, 0 where it was not looked at."""
        self.dataset.get_data_info(idx)
        self.count += 1
        return os.getpid(), private_memory() if self.count % self.interval == 0 else 0


class Nothing(Dataset):
    """A data set without content: what a worker weighs before it holds any."""

    def __len__(self) -> int:
        return 1 << 30

    def __getitem__(self, idx: int) -> tuple[int, int]:
        """The process and its private memory in bytes."""
        return os.getpid(), private_memory()


def private_memory() -> int:
    """Memory that only this process has (USS), in bytes."""
    return psutil.Process().memory_full_info().uss


def worker_memory(dataset: Dataset, order: list[int], workers: int, method: str) -> float:
    """Largest private memory of a data loader's workers after they have read, in MB."""
    loader = DataLoader(dataset, batch_size=None, sampler=order, num_workers=workers,
                        multiprocessing_context=method)
    return max(memory for _, memory in loader) / MB


def benchmark_index(args: argparse.Namespace) -> None:
    """Open a file twice, read from it, and look at what the processes weigh."""
    def build() -> PerceptionDataset:
        return BoxDetectionDataset(
            ann_file=args.ann_file, data_prefix=dict(img=str(Path(args.ann_file).parent)),
            index_dir=args.index_dir)

    print(f'file: {Path(args.ann_file).stat().st_size / 1e9:.2f} GB; memory of the imports: '
          f'{psutil.Process().memory_info().rss / MB:.0f} MB')
    for name in ('first', 'later'):
        clock = Clock()
        dataset = build()
        cpu, wall = clock.read()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f'{name} open: {cpu:.1f} s of processor, {wall:.1f} s; peak memory of the process '
              f'so far {peak:.0f} MiB')
    order = np.random.default_rng(0).integers(len(dataset), size=args.reads).tolist()
    clock = Clock()
    boxes = sum(len(dataset.get_data_info(i)['boxes']) for i in order)
    cpu, wall = clock.read()
    print(f'{len(dataset)} images; random access: {boxes / cpu:,.0f} annotations/s of processor, '
          f'{boxes / wall:,.0f} by the clock ({len(order) / cpu:,.0f} images/s)')
    print(f'process: {psutil.Process().memory_info().rss / MB:.0f} MB resident')
    for method in ('fork', 'spawn'):
        own = worker_memory(OwnMemory(dataset), order, args.workers, method)
        empty = worker_memory(Nothing(), order[:args.workers], args.workers, method)
        print(f'{method}: a worker has {own:.0f} MB of its own, {empty:.0f} MB with a data set '
              f'without content; the data set adds {own - empty:.0f} MB')


def coco_dataset(args: argparse.Namespace) -> PerceptionDataset:
    """The config's first data set, on the files given."""
    with config_errors_in_one_line('benchmark_data'):
        cfg = load_config(args.config, {'model.tokenizer.path': args.tokenizer})
    cfg = cfg.train_dataloader.dataset.datasets[0]
    cfg.update(
        data_root=args.coco, ann_file=f'annotations/panoptic_{args.split}.json',
        data_prefix=dict(img=args.split, seg=f'annotations/panoptic_{args.split}'),
        caption_store=f'annotations/captions_{args.split}.json', exclude_refs=[])
    for task in cfg.tasks:
        task.missing_caption = 'none'
    return DATASETS.build(cfg)


def benchmark_pipeline(args: argparse.Namespace) -> None:
    """Time each step of the pipeline and the collation of batches of 8."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    dataset = coco_dataset(args)
    seconds: dict[str, list[float]] = defaultdict(list)

    def timed(name: str, call: Callable, *inputs: Any) -> Any:
        clock = Clock()
        result = call(*inputs)
        seconds[name].append(clock.read()[0])
        return result

    def sample(idx: int) -> Any:
        data = timed('get_data_info', dataset.get_data_info, idx)
        for step in dataset.pipeline.transforms:
            data = timed(type(step).__name__, step, data)
        return data

    for idx in range(8):
        sample(idx)
    seconds.clear()
    clock = Clock()
    for start in range(0, args.number, 8):
        batch = [sample(i % len(dataset)) for i in range(start, min(start + 8, args.number))]
        timed('collate', perception_collate, batch)
    cpu, wall = clock.read()
    print(f'{args.number} images, inputs {tuple(batch[0]["inputs"].shape)}: '
          f'{args.number / cpu:.1f} images/s of one core ({args.number / wall:.1f} by the clock)')
    for name, values in seconds.items():
        print(f'{name:<28}{1e3 * sum(values) / args.number:8.2f} ms an image')


def benchmark_instruction(args: argparse.Namespace) -> None:
    """Time the word list of the whole vocabulary, with tokens."""
    dataset = coco_dataset(args)
    build = dataset.pipeline.transforms[0]
    times = []
    for idx in range(args.number):
        item = dataset.get_data_info(idx % len(dataset))
        annotation: ImageAnnotation = item['annotation']
        clock = Clock()
        item = build(item)
        times.append(1e3 * clock.read()[0])
    instruction = item['requests'][0].instruction
    print(f'{len(annotation.vocabulary)} names, {len(instruction.phrases)} listed, '
          f'{len(instruction.input_ids)} tokens: median {statistics.median(times):.2f} ms, '
          f'mean {statistics.mean(times):.2f} ms, first {times[0]:.1f} ms')


def main() -> None:
    """Run the chosen benchmark."""
    args = parse_args()
    dict(index=benchmark_index, pipeline=benchmark_pipeline,
         instruction=benchmark_instruction)[args.command](args)


if __name__ == '__main__':
    main()
