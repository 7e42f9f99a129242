# Copyright (c) mvp_mm authors. All rights reserved.
"""Score saved predictions again, without the model.

The data sets and metrics are those of the test part of a config; the predictions are what
``tools/test.py --out`` has saved. The figures are those of the test.

Example::

    python tools/analysis_tools/eval_metric.py configs/mvplm/stage2.py predictions
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

import mmengine
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from tqdm import tqdm

from mvp_mm.analysis.evaluation_sets import choose_test_sets
from mvp_mm.engine.config_check import check_config
from mvp_mm.engine.config_error import ConfigError
from mvp_mm.engine.launch import add_common_arguments, config_from_args
from mvp_mm.evaluation import PredictionReader
from mvp_mm.evaluation.saved_vocabulary import json_annotations
from mvp_mm.evaluation.scoring import TolerantEvaluator, evaluate_metrics, meta_of


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file')
    parser.add_argument('predictions', type=Path, help='folder that tools/test.py --out has made')
    parser.add_argument('--only', nargs='+', metavar='NAME',
                        help='score these data sets of the config; default all')
    parser.add_argument(
        '--metrics-file', type=Path,
        help='where to write the metrics; default <predictions>/metrics.json')
    add_common_arguments(parser)
    return parser.parse_args()


def score(loader_cfg: dict, metrics: dict | list, folder: Path) -> dict[str, float]:
    """Score one dataset; see :func:`score_each`.

    Raises:
        ValueError: If any metric fails, besides.
    """
    found, problems = score_each(loader_cfg, metrics, folder)
    if problems:
        raise ValueError('; '.join(problems))
    return found


def score_each(loader_cfg: dict, metrics: dict | list,
               folder: Path) -> tuple[dict[str, float], list[str]]:
    """Score one dataset by every metric, also where another one fails.

    Args:
        loader_cfg: Its data loader; the pipeline packs ``gt_eval``.
        metrics: Its metrics.
        folder: Its predictions.

    Returns:
        The figures, and a message for each metric that has failed.

    Raises:
        FileNotFoundError: If there are no predictions.
        KeyError: If one is missing.
        ValueError: If one answers nothing that the dataset asks.
    """
    loader = Runner.build_dataloader(loader_cfg, seed=0)
    meta = meta_of(loader.dataset) or {}
    reader = PredictionReader(folder, meta.get('classes', ()), meta.get('thing_flags', ()),
                              json_annotations(loader_cfg['dataset']))
    evaluator = TolerantEvaluator(metrics)
    evaluator.dataset_meta = meta
    count = 0
    for batch in tqdm(loader, desc=folder.name):
        samples = []
        for index, of_image in enumerate(batch['data_samples']):
            for sample in of_image:
                sample.set_metainfo(dict(image_index=index))
                reader.answer(sample)
                samples.append(sample)
        evaluator.process(data_samples=samples, data_batch=batch)
        count += len(samples)
    reader.check_all_used()
    return evaluate_metrics(evaluator, count)


def main() -> None:
    """Score and write the metrics."""
    args = parse_args()
    try:
        cfg = config_from_args(args)
        if args.launcher != 'none':
            raise ConfigError('--launcher: one process scores')
        # Neither the model nor its weights are looked at.
        for key in ('model', 'load_from'):
            cfg.pop(key, None)
        check_config(cfg, modes=('test',))
        chosen = choose_test_sets(cfg, args.only)
        if not args.predictions.is_dir():
            raise ConfigError(f'no such folder: {args.predictions}')
    except ConfigError as error:
        sys.exit(f'eval_metric: error: {error}')
    init_default_scope(cfg.get('default_scope', 'mvp_mm'))
    metrics: dict[str, float] = {}
    errors: list[str] = []
    for name, (loader, evaluator) in chosen.items():
        found: dict[str, float] = {}
        try:
            found, failed = score_each(loader, evaluator, args.predictions / name)
            errors += [f'eval_metric: error: {args.predictions / name}: {text}' for text in failed]
        except (KeyError, ValueError, FileNotFoundError) as error:
            # A KeyError's text is in quotation marks.
            errors.append(f'eval_metric: error: '
                          f'{error.args[0] if len(error.args) == 1 else error}')
        metrics.update({f'{name}/{key}' if name else key: value for key, value in found.items()})
    if metrics or not errors:
        target = args.metrics_file or args.predictions / 'metrics.json'
        mmengine.dump(metrics, str(target), indent=2, sort_keys=True)
        print(f'metrics written to {target}')
    if errors:
        sys.exit('\n'.join(errors))


if __name__ == '__main__':
    main()
