# Copyright (c) mvp_mm authors. All rights reserved.
"""Choose the threshold of generalized referring on images that neither train nor test a model.

Prints the balanced threshold, ROC area and calibration error (ECE) of the presence score, a
sentence's best query, beside N-acc, T-acc and the Matthews correlation (MCC) at that threshold and
at the config's.

Example::

    python tools/data/make_synthetic_world.py --out data/calibration --train 1 --val 150 --seed 7
    python tools/analysis_tools/calibrate_presence.py configs/mvplm/tiny/pretrained.py \
        mvp_mm/weights/tiny/model.safetensors --images 150 --out results/tiny_presence.json \
        --data-root data/calibration
"""
from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

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


def presence(run: EvaluatedModel, name: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Ask all sentences of a dataset.

    Returns:
        (n,) presence scores, (n,) bool whether there is a target, and the task's own threshold.

    Raises:
        ValueError: If the dataset does not ask generalized referring.
    """
    scores, present, threshold = [], [], None
    for batch in run.batches(name):
        for sample in (sample for group in batch['data_samples'] for sample in group):
            task = sample.task_object
            if task.name != 'generalized_referring':
                raise ValueError(f'{name} asks {task.name}, not generalized_referring')
            if threshold is None:
                threshold = max(task.score_thr, task.presence_thr or 0.0)
            # Every query answers; what is compared is the best of them.
            task.score_thr, task.presence_thr = 0.0, None
        for sample in run.answer(batch):
            found = sample.pred_instances.scores
            scores.append(float(found.max()) if len(found) else 0.0)
            present.append(len(sample.gt_eval['bboxes']) > 0)
    assert threshold is not None
    return np.array(scores), np.array(present), threshold


def main() -> None:
    """Ask, calibrate and write."""
    args = parse_args()
    start = time.monotonic()
    args.datasets = [args.dataset]
    if args.data_root:
        args.cfg_options[f'{_DATASETS}.{args.dataset}.dataset.data_root'] = args.data_root
    try:
        run = EvaluatedModel(args)
        scores, present, own = presence(run, args.dataset)
        figures = measure(scores, present, own)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f'calibrate_presence: error: {error}')
    write_result(args.out, figures, config=run.cfg, weights=args.checkpoint,
                 settings=dict(images=args.images, dataset=args.dataset),
                 seconds=time.monotonic() - start)
    print(markdown(['', 'balanced', 'config'],
                   [[key, *(figures[side][key] for side in ('balanced', 'config'))]
                    for key in figures['balanced']]))
    print(f'threshold {figures["balanced"]["threshold"]:.3f}, ROC area {figures["area"]:.3f}, '
          f'ECE {figures["calibration_error"]:.3f} of {len(scores)} sentences')


def measure(scores: np.ndarray, present: np.ndarray, own: float) -> dict[str, Any]:
    """Calibrate, and say what the config's own threshold gives on the same sentences."""
    found = calibrate_presence(scores, present)

    def at(threshold: float) -> dict[str, float]:
        above = scores > threshold
        return {'threshold': threshold, 'N-acc': 100 * (~above)[~present].mean(),
                'T-acc': 100 * above[present].mean(),
                'MCC': matthews_correlation(above, present)}

    return dict(
        sentences=len(scores), with_target=int(present.sum()), area=found.area,
        calibration_error=found.calibration_error, balanced=at(found.threshold), config=at(own))


if __name__ == '__main__':
    main()
