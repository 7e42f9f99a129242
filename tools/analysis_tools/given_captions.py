# Copyright (c) mvp_mm authors. All rights reserved.
"""Measure what captions are worth: the model's own, none, true, shuffled and wrong ones.

The response that the LLM would write is replaced by a caption of the synthetic world: the true
one, that of another image, or the true one with errors of a kind at rising rates (swapped, negated
or invented objects). Figures go to a result file, a picture beside it shows them.

Example::

    python tools/analysis_tools/given_captions.py configs/mvplm/tiny/pretrained.py \
        mvp_mm/weights/tiny/model.safetensors --images 300 --out results/given_captions.json
"""
from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
from mmengine.config import DictAction

from mvp_mm.analysis.evaluated_model import EvaluatedModel, markdown, process, summary
from mvp_mm.analysis.given_responses import answer_given
from mvp_mm.analysis.results import write_result
from mvp_mm.structures import PerceptionDataSample
from mvp_mm.synthetic.caption_errors import ERRORS, wrong_captions
from mvp_mm.synthetic.captions import list_caption
from mvp_mm.synthetic.known_scenes import KnownScenes

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

# The main figure of each kind of dataset.
MAIN = ('panoptic/PQ', 'referring/REC', 'generalized/gIoU', 'coco/bbox_AP', 'grounding/R@1')
Caption = Callable[[PerceptionDataSample], str]
Figures = dict[str, dict[str, float]]


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config with named test datasets of the synthetic world')
    parser.add_argument('checkpoint', help='checkpoint, published folder or name of the model zoo')
    parser.add_argument('--out', type=Path, required=True, help='result file to write')
    parser.add_argument('--world', default='data/synthetic', help='folder of the synthetic world')
    parser.add_argument('--datasets', nargs='+', default=['panoptic', 'refcoco'], metavar='NAME',
                        help='datasets of test_dataloader')
    parser.add_argument('--images', type=int, default=300, help='first images of each dataset')
    parser.add_argument('--rates', nargs='+', type=float, default=[0.25, 0.5, 1.0],
                        help='shares of the mentions that get an error')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2],
                        help='seeds of the errors and of the shuffling')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


def number_of(sample: PerceptionDataSample) -> int:
    """Read the number of an image from its file name."""
    return int(Path(sample.img_path).stem)


def conditions(scenes: KnownScenes, numbers: list[int], rates: list[float],
               seeds: list[int]) -> dict[str, list[Caption]]:
    """Make the captions of each condition, one function per seed where chance takes part.

    Args:
        scenes: The scenes of the world.
        numbers: The images that are asked about.
        rates: Rates of the errors.
        seeds: Seeds.
    """
    def wrong(error: str, rate: float, seed: int) -> Caption:
        captions = wrong_captions(scenes, numbers, error, rate, seed)
        return lambda sample: captions[number_of(sample)]

    found: dict[str, list[Caption]] = {
        'true': [lambda sample: list_caption(scenes[number_of(sample)])],
        'shuffled': [wrong('shuffled', 1., seed) for seed in seeds]}
    for error in ERRORS:
        for rate in rates:
            found[f'{error} {rate:g}'] = [wrong(error, rate, seed) for seed in seeds]
    return found


def score(run: EvaluatedModel, name: str, caption: Caption | bool) -> dict[str, float]:
    """Measure a dataset with given captions, or with thinking on or off."""
    metrics = run.metrics(name)
    for batch in run.batches(name):
        if isinstance(caption, bool):
            run.model.thinking = caption
            answers = run.answer(batch)
        else:
            samples = [sample for group in batch['data_samples'] for sample in group]
            answers = answer_given(run.model, batch, [caption(sample) for sample in samples])
        process(metrics, batch, answers)
    return summary(metrics)


def measure(run: EvaluatedModel, name: str, scenes: KnownScenes,
            args: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Measure all conditions on a dataset; one value per seed."""
    numbers = [number_of(group[0]) for batch in run.batches(name)
               for group in batch['data_samples'] if group]
    asked: dict[str, list[Caption | bool]] = {'own': [True], 'none': [False]}
    asked.update(conditions(scenes, numbers, args.rates, args.seeds))
    found: dict[str, dict[str, list[float]]] = {}
    for condition, captions in asked.items():
        begin = time.monotonic()
        values = [score(run, name, caption) for caption in captions]
        found[condition] = {key: [float(value[key]) for value in values] for key in values[0]}
        print(f'{name:10} {condition:14} {time.monotonic() - begin:6.1f} s', flush=True)
    return found


def means(values: dict[str, dict[str, list[float]]]) -> dict[str, Figures]:
    """Average over the seeds: per condition and figure the mean and the deviation."""
    return {condition: {key: dict(mean=float(np.mean(seeds)), deviation=float(np.std(seeds)))
                        for key, seeds in figures.items()}
            for condition, figures in values.items()}


def plot(figures: dict[str, dict[str, Figures]], rates: list[float], path: Path) -> None:
    """Draw one panel per dataset: its main figure over the rate of each error."""
    count = len(figures)
    figure, axes = plt.subplots(1, count, figsize=(5 * count, 4), squeeze=False)
    for axis, (name, found) in zip(axes[0], figures.items(), strict=True):
        key = main_figure(found)
        for error in ERRORS:
            points = [found['true'], *(found[f'{error} {rate:g}'] for rate in rates)]
            axis.errorbar([0, *rates], [p[key]['mean'] for p in points],
                          [p[key]['deviation'] for p in points], marker='o', label=error)
        for condition, style in (('own', '-'), ('none', '--'), ('shuffled', ':')):
            axis.axhline(found[condition][key]['mean'], color='grey', linestyle=style,
                         label=condition)
        # Ten points at least: differences within rounding must not look like effects.
        low, high = axis.get_ylim()
        margin = max(0.0, 10 - (high - low)) / 2
        axis.set(title=name, xlabel='share of the mentions that are wrong', ylabel=key,
                 ylim=(low - margin, high + margin))
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main_figure(found: dict[str, Figures]) -> str:
    """Choose the figure that stands for a dataset."""
    keys = list(found['true'])
    return next((key for key in MAIN if key in keys), keys[0])


def main() -> None:
    """Measure, write and draw."""
    args = parse_args()
    start = time.monotonic()
    try:
        scenes = KnownScenes(args.world)
        run = EvaluatedModel(args)
        figures = {name: means(measure(run, name, scenes, args)) for name in run.loaders}
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f'given_captions: error: {error}')
    write_result(args.out, figures, config=run.cfg, weights=args.checkpoint, seeds=args.seeds,
                 settings=dict(images=args.images, rates=args.rates),
                 seconds=time.monotonic() - start)
    plot(figures, args.rates, args.out.with_suffix('.png'))
    for name, found in figures.items():
        key = main_figure(found)
        print(f'\n{name}, {key}\n')
        print(markdown(['captions', 'mean', 'deviation'], [
            [condition, values[key]['mean'], values[key]['deviation']]
            for condition, values in found.items()]))


if __name__ == '__main__':
    main()
