# Copyright (c) mvp_mm authors. All rights reserved.
"""Estimate memory, traffic, images per second and hours of both stages from measured parts.

The measured parts are read from a JSON file, batch sizes and step counts from the configs. Nothing
is trained. The tables of ``docs/reference/scale.md`` are what this prints.

Example::

    python tools/analysis_tools/estimate_scale.py docs/reference/scale.json --gpus 1 8 64
"""
from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvp_mm.engine import load_config

GIB = 2**30
# A float32 weight, its gradient and AdamW's two moments.
BYTES_PER_TRAINED_PARAMETER = 16
BYTES_PER_GRADIENT = 4
# Nominal bytes per second, GPU and direction: NVLink in a node of eight, 400 Gb/s between nodes.
LINK_RATES = {'within a node': 450e9, 'between nodes': 50e9}
GPUS_PER_NODE = 8
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Stage:
    """What an optimizer step of a stage takes.

    Attributes:
        name: Its name.
        steps: Optimizer steps.
        images: Images per step, over all GPUs.
        images_per_pass: At most so many images per GPU and forward pass.
        seconds: Seconds of a pass by its number of images.
        trained: Trained parameters.
        fixed_memory: Bytes of weights, gradients and moments.
        memory_per_image: Further bytes per image of a pass; None if nobody measured them.
    """

    name: str
    steps: int
    images: int
    images_per_pass: int
    seconds: Callable[[float], float]
    trained: float
    fixed_memory: float
    memory_per_image: float | None

    def at(self, gpus: int) -> dict[str, Any]:
        """Estimate one number of GPUs.

        Args:
            gpus: How many, with the stage's images per step sharded over them.

        Returns:
            The cells of a row of the table by the names of their columns.
        """
        on_each = self.images / gpus
        batch = min(on_each, self.images_per_pass)
        passes = on_each / batch
        seconds = passes * self.seconds(batch)
        # A ring sends each gradient twice, but for the own share.
        sent = 2 * (gpus - 1) / gpus * BYTES_PER_GRADIENT * self.trained
        link = 'between nodes' if gpus > GPUS_PER_NODE else 'within a node'
        exposed = seconds + sent / LINK_RATES[link]
        memory = None if self.memory_per_image is None else (
            self.fixed_memory + self.memory_per_image * batch) / GIB
        sharded = None if memory is None else memory - (
            BYTES_PER_TRAINED_PARAMETER * self.trained * (1 - 1 / gpus) / GIB)
        return {
            'stage': self.name, 'GPUs': gpus, 'images per GPU and pass': f'{batch:g}',
            'passes per step': f'{passes:g}', 'DDP, GiB': _cell(memory, '.0f'),
            'FSDP, GiB': _cell(sharded, '.0f') if gpus > 1 else '',
            'GB sent per GPU and step': f'{sent / 1e9:.2f}' if gpus > 1 else '0',
            'images/s': _span(self.images / exposed, self.images / seconds),
            'hours': _span(self.steps * seconds / 3600, self.steps * exposed / 3600)}


def _cell(value: float | None, form: str) -> str:
    return 'not measured' if value is None else format(value, form)


def _span(low: float, high: float) -> str:
    """Write one number, or two where they differ as written."""
    first, second = (f'{value:.1f}' if value < 100 else f'{value:.0f}' for value in (low, high))
    return first if first == second else f'{first} to {second}'


def interpolate(pair: dict[str, float], number: float) -> float:
    """Estimate the seconds of a part from two measurements.

    Args:
        pair: Seconds by number of images or instructions, two of them.
        number: The number asked about.

    Returns:
        The line through both; beyond the larger one that one's rate, so that time spent on
        launching kernels is not taken for room on the device.
    """
    (small, fast), (large, slow) = sorted((int(n), t) for n, t in pair.items())
    line = slow + (slow - fast) / (large - small) * (number - large)
    return max(line, slow * number / large)


def stages(measured: dict[str, Any]) -> list[Stage]:
    """Put the measured parts and the configs together.

    Args:
        measured: The content of ``docs/reference/scale.json``.
    """
    first, second = (load_config(ROOT / f'configs/mvplm/stage{number}.py') for number in (1, 2))
    counts, whole = measured['parameters'], measured['stage2_pass']
    parts, kinds = measured['parts'], measured['pass_by_images'].values()
    trained = counts['all'] - counts['encoder']
    states = BYTES_PER_TRAINED_PARAMETER * trained + 4 * counts['encoder']

    def caption_pass(images: float) -> float:
        # Encoder and LLM are frozen. Gradients pass through the LLM's activations alone, which
        # takes about as long as its forward pass.
        return interpolate(parts['encoder_by_images'], images) + 2 * interpolate(
            parts['llm_by_instructions'], images)

    def mixed_pass(images: float) -> float:
        # The shipped mix was measured at one size; other sizes follow from the kinds apart.
        ratios = [interpolate(kind, images) / interpolate(kind, whole['images']) for kind in kinds]
        return whole['seconds'] * sum(ratios) / len(ratios)

    return [
        Stage('1', first.train_cfg.max_iters, first.total_batch_size,
              first.train_dataloader.batch_size, caption_pass, counts['connector'],
              4 * counts['all'] + 12 * counts['connector'], None),
        Stage('2', second.train_cfg.max_iters, second.total_batch_size,
              second.train_dataloader.batch_size, mixed_pass, trained, states,
              (whole['memory_gib'] * GIB - states) / whole['images'])]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Write rows as a table in Markdown."""
    lines = [list(rows[0]), ['---'] * len(rows[0]), *(row.values() for row in rows)]
    return '\n'.join('| ' + ' | '.join(map(str, line)) + ' |' for line in lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('measured', type=Path, help='JSON file of measured parts')
    parser.add_argument('--gpus', type=int, nargs='+', default=[1, 8, 64])
    args = parser.parse_args()
    print(report(json.loads(args.measured.read_text()), args.gpus))


def report(measured: dict[str, Any], gpus: Sequence[int]) -> str:
    """Write both tables.

    Args:
        measured: See :func:`stages`.
        gpus: Numbers of GPUs; the images of a step are sharded over each.
    """
    both = stages(measured)
    rows = [stage.at(number) for stage in both for number in gpus]
    cores = [{
        'stage': stage.name, 'GPUs': number,
        'cores that load data': f'{rate / measured["pipeline_images_per_second_and_core"]:.1f}',
        'MB/s read': f'{rate * measured["bytes_per_image"] / 1e6:.0f}'}
        for stage in both for number in gpus
        for rate in [float(stage.at(number)['images/s'].split()[-1])]]
    return f'{table(rows)}\n\n{table(cores)}'


if __name__ == '__main__':
    main()
