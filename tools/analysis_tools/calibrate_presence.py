# Copyright (c) mvp_mm authors. All rights reserved.
"""Choose the threshold of generalized referring on images that neither train nor test a model.

Prints the balanced threshold, ROC area and calibration error (ECE) of a sentence's presence, the
probability that any query is meant, beside N-acc, T-acc and the Matthews correlation (MCC) at that
threshold, where N-acc and T-acc are equal, and as the config answers, and the area of the best
query's score alone.

Example::

    python tools/data/make_synthetic_world.py --out data/calibration --train 1 --val 600 --seed 7
    python tools/analysis_tools/calibrate_presence.py configs/mvplm/tiny/pretrained.py \
        mvp_mm/weights/tiny/model.safetensors --images 600 --out results/tiny_presence.json \
        --data-root data/calibration
"""
from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.config import DictAction

from mvp_mm.analysis.evaluated_model import EvaluatedModel, markdown
from mvp_mm.analysis.presence import calibrate_presence, matthews_correlation
from mvp_mm.analysis.results import write_result

_DATASETS = 'test_dataloader'


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config with named test datasets')
    parser.add_argument('checkpoint', help='checkpoint, published folder or name of the model zoo')
    parser.add_argument('--dataset', default='grefcoco', metavar='NAME',
                        help='dataset of test_dataloader that asks generalized referring')
    parser.add_argument('--data-root', help='folder to read the dataset from in its place')
    parser.add_argument('--images', type=int, default=150, help='first images of the dataset')
    parser.add_argument('--out', type=Path, required=True, help='result file to write')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={},
                        metavar='KEY=VALUE')
    return parser.parse_args()


class Asked(NamedTuple):
    """What came of all sentences of a dataset.

    Attributes:
        presence: (n,) probabilities that they mean anything.
        best: (n,) scores of their best queries.
        present: (n,) bool, whether they do.
        answered: (n,) bool, whether the config's task answers with anything.
        threshold: That task's.
    """

    presence: np.ndarray
    best: np.ndarray
    present: np.ndarray
    answered: np.ndarray
    threshold: float


def ask(run: EvaluatedModel, name: str) -> Asked:
    """Ask all sentences of a dataset.

    Raises:
        ValueError: If the dataset does not ask generalized referring, or its task knows no
            presence.
    """
    presence, best, present, answered, threshold = [], [], [], [], 0.
    for batch in run.batches(name):
        for sample in (sample for group in batch['data_samples'] for sample in group):
            task = sample.task_object
            if task.name != 'generalized_referring':
                raise ValueError(f'{name} asks {task.name}, not generalized_referring')
            task.num_candidates = 1
            threshold = task.score_thr if task.presence_thr is None else task.presence_thr
        for sample in run.answer(batch):
            if 'pred_sentence_presence' not in sample:
                raise ValueError(f'{name}: {type(sample.task_object).__name__} tells no presence')
            presence.append(float(sample.pred_sentence_presence))
            best.append(float(sample.pred_candidates.scores.max()))
            present.append(len(sample.gt_eval['bboxes']) > 0)
            answered.append(len(sample.pred_instances) > 0)
    return Asked(*map(np.array, (presence, best, present, answered)), threshold)


def main() -> None:
    """Ask, calibrate and write."""
    args = parse_args()
    start = time.monotonic()
    args.datasets = [args.dataset]
    if args.data_root:
        args.cfg_options[f'{_DATASETS}.{args.dataset}.dataset.data_root'] = args.data_root
    try:
        run = EvaluatedModel(args)
        figures = measure(ask(run, args.dataset))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f'calibrate_presence: error: {error}')
    write_result(args.out, figures, config=run.cfg, weights=args.checkpoint,
                 settings=dict(images=args.images, dataset=args.dataset),
                 seconds=time.monotonic() - start)
    sides = ('balanced', 'equal', 'config')
    print(markdown(['', *sides],
                   [[key, *(figures[side][key] for side in sides)]
                    for key in figures['balanced']]))
    print(f'threshold {figures["balanced"]["threshold"]:.3f}, ROC area {figures["area"]:.3f}, '
          f'ECE {figures["calibration_error"]:.3f} of {figures["sentences"]} sentences')


def measure(asked: Asked) -> dict[str, Any]:
    """Calibrate, and say how the config answers the same sentences."""
    present = asked.present
    found = calibrate_presence(asked.presence, present)

    def accuracy(answered: np.ndarray, threshold: float) -> dict[str, float]:
        return {'threshold': threshold, 'N-acc': 100 * (~answered)[~present].mean(),
                'T-acc': 100 * answered[present].mean(),
                'MCC': matthews_correlation(answered, present)}

    return dict(
        sentences=len(present), with_target=int(present.sum()), area=found.area,
        area_of_best_query=calibrate_presence(asked.best, present).area,
        calibration_error=found.calibration_error,
        balanced=accuracy(asked.presence > found.threshold, found.threshold),
        equal=accuracy(asked.presence > found.equal_threshold, found.equal_threshold),
        config=accuracy(asked.answered, asked.threshold))


if __name__ == '__main__':
    main()
