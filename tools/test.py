# Copyright (c) mvp_mm authors. All rights reserved.
"""Test a checkpoint with the data sets and metrics of a config."""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import mmengine
from mmengine.config import Config
from mmengine.dist import is_main_process

from mvp_mm.engine.config_check import check_config
from mvp_mm.engine.config_error import ConfigError
from mvp_mm.engine.launch import (
    add_common_arguments,
    config_errors_in_one_line,
    config_from_args,
    prepare_processes,
    run_errors_in_one_line,
)
from mvp_mm.engine.runner import PerceptionRunner
from mvp_mm.evaluation.saved_vocabulary import json_annotations
from mvp_mm.utils.atomic import write_text


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Test a model')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--out', metavar='DIR',
        help='also save all predictions, in the formats of docs/reference/evaluation.md; several '
        'datasets get one subfolder each')
    parser.add_argument('--show-dir', help='write pictures of the predictions to this folder')
    parser.add_argument(
        '--metrics-file', help='where to write the metrics; default <work folder>/metrics.json. '
        'Beside it *.source.json names config and checkpoint')
    parser.add_argument(
        '--overwrite', action='store_true',
        help='replace metrics of another config or checkpoint')
    add_common_arguments(parser)
    return parser.parse_args()


def save_predictions(cfg: Config, out: str) -> None:
    """Add a writer to the evaluator of every data set."""
    folder = Path(out)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ConfigError(f'--out {out} exists and is not an empty folder')

    def with_writer(metrics: dict | list, loader: dict, target: Path) -> list:
        metrics = metrics if isinstance(metrics, list) else [metrics]
        writer = dict(type='PredictionWriter', out_dir=str(target),
                      ann_file=json_annotations(loader.dataset))
        return [writer, *metrics]

    if 'dataset' in cfg.test_dataloader:
        cfg.test_evaluator = with_writer(cfg.test_evaluator, cfg.test_dataloader, folder)
    else:
        for name, metrics in cfg.test_evaluator.items():
            cfg.test_evaluator[name] = with_writer(
                metrics, cfg.test_dataloader[name], folder / name)


def check_free(target: Path, source: dict[str, str], overwrite: bool) -> None:
    """Refuse to replace metrics of another model.

    Args:
        target: File of the metrics.
        source: Config and checkpoint of those that are to be written.
        overwrite: Whether to replace them all the same.

    Raises:
        ConfigError: If the file holds metrics of another config or checkpoint, or of an unknown.
    """
    if overwrite or not target.exists():
        return
    path = source_file(target)
    found = json.loads(path.read_text()) if path.is_file() else None
    if found != source:
        origin = f'{found["checkpoint"]} with {found["config"]}' if found else 'an unknown model'
        raise ConfigError(f'{target} holds the metrics of {origin}; give another --work-dir or '
                          '--metrics-file, or --overwrite')


def source_file(target: Path) -> Path:
    """Where config and checkpoint of a file of metrics are written."""
    return target.with_suffix('.source.json')


def draw_predictions(cfg: Config, show_dir: str) -> None:
    """Let the visualization hook draw every sample into a folder."""
    hook = dict(type='PerceptionVisualizationHook')
    hook.update(cfg.default_hooks.get('visualization') or {}, interval=1, out_dir=show_dir)
    cfg.default_hooks.visualization = hook


def main() -> None:
    """Test."""
    args = parse_args()
    with config_errors_in_one_line('test'):
        cfg = config_from_args(args)
        cfg.load_from, cfg.resume = args.checkpoint, False
        if args.out:
            save_predictions(cfg, args.out)
        if args.show_dir:
            draw_predictions(cfg, args.show_dir)
        check_config(cfg, modes=('test',))
        target = Path(args.metrics_file or Path(cfg.work_dir) / 'metrics.json')
        source = dict(config=args.config, checkpoint=args.checkpoint)
        check_free(target, source, args.overwrite)
    prepare_processes(cfg)
    with run_errors_in_one_line('test'):
        runner = PerceptionRunner.from_cfg(cfg)
        metrics = runner.test()
        problems = getattr(runner.test_loop, 'problems', {})
        if is_main_process() and (metrics or not problems):
            # The source first: metrics without one would block the next test.
            write_text(source_file(target), json.dumps(source, indent=2))
            write_text(target, mmengine.dump(metrics, file_format='json', indent=2,
                                             sort_keys=True))
            print(f'metrics written to {target}')
    if problems:
        sys.exit('\n'.join(f'test: error: {name}: {text}' for name, text in problems.items()))


if __name__ == '__main__':
    main()
