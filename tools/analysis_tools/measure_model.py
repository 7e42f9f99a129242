# Copyright (c) mvp_mm authors. All rights reserved.
"""Measure a model on all test datasets of its config, with and without thinking and NMS.

All figures of every metric go to one result file with the commit, config, weights and hardware.

Example::

    python tools/analysis_tools/measure_model.py configs/mvplm/tiny/pretrained.py \
        mvp_mm/weights/tiny/model.safetensors --images 300 --out results/tiny_model.json
"""
from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.config import DictAction

from mvp_mm.analysis.evaluated_model import EvaluatedModel, markdown, process
from mvp_mm.analysis.results import write_result

# Options of decoding, and whether the LLM writes its response first.
VARIANTS: dict[str, dict[str, Any]] = {
    'thinking': dict(thinking=True, nms_iou=None),
    'direct': dict(thinking=False, nms_iou=None),
    'nms': dict(thinking=True, nms_iou=0.7),
}


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config with named test datasets')
    parser.add_argument('checkpoint', help='checkpoint, published folder or name of the model zoo')
    parser.add_argument('--out', type=Path, required=True, help='result file to write')
    parser.add_argument('--images', type=int, default=300, help='first images of each dataset')
    parser.add_argument('--datasets', nargs='+', metavar='NAME',
                        help='datasets of test_dataloader; default all')
    parser.add_argument('--variants', nargs='+', default=list(VARIANTS), choices=list(VARIANTS),
                        help='thinking: the LLM writes its response first; direct: it does not; '
                        'nms: thinking, and repeated answers are removed')
    parser.add_argument('--seed', type=int, default=0, help='seed of the training')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


def measure(run: EvaluatedModel, name: str) -> dict[str, float]:
    """Measure all metrics of a dataset, those by kind of expression too."""
    metrics = run.metrics(name)
    for batch in run.batches(name):
        process(metrics, batch, run.answer(batch))
    figures: dict[str, float] = {}
    for metric in metrics:
        figures.update(metric.evaluate(len(metric.results)))
    return figures


def main() -> None:
    """Measure and write."""
    args = parse_args()
    start = time.monotonic()
    figures: dict[str, dict[str, Any]] = {}
    try:
        run = EvaluatedModel(args)
        answering = run.model.answering
        for variant in args.variants:
            options = dict(VARIANTS[variant])
            run.model.thinking = options.pop('thinking')
            run.model.answering = replace(answering, **options)
            figures[variant] = {}
            for name in run.loaders:
                begin = time.monotonic()
                figures[variant][name] = measure(run, name)
                print(f'{variant:9} {name:12} {time.monotonic() - begin:6.1f} s', flush=True)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f'measure_model: error: {error}')
    settings = dict(images=args.images, variants={name: VARIANTS[name] for name in args.variants})
    write_result(args.out, figures, config=run.cfg, weights=args.checkpoint, seeds=[args.seed],
                 settings=settings, seconds=time.monotonic() - start)
    print_table(figures)
    print(f'written to {args.out}')


def print_table(figures: dict[str, dict[str, Any]]) -> None:
    """Print one column per variant, without the figures by kind."""
    first = next(iter(figures.values()))
    rows = [[f'{name}/{key}', *(float(found[name].get(key, float('nan')))
                                for found in figures.values())]
            for name, metrics in first.items() for key in metrics if key.count('/') == 1]
    print(markdown(['', *figures], rows))


if __name__ == '__main__':
    main()
