# Copyright (c) mvp_mm authors. All rights reserved.
"""Test of a checkpoint with the datasets and metrics of a config."""
from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import mmengine
from mmengine.config import Config
from mmengine.dist import is_main_process

from mvp_mm.cli.actions.errors import run_errors_reported
from mvp_mm.cli.command import FAILED, Failure, reported
from mvp_mm.engine.config_check import check_config
from mvp_mm.engine.config_error import ConfigError
from mvp_mm.engine.config_files import check_weights
from mvp_mm.engine.launch import config_from_args, leave_processes, prepare_processes
from mvp_mm.engine.runner import PerceptionRunner
from mvp_mm.evaluation.saved_vocabulary import json_annotations
from mvp_mm.utils.atomic import write_text
from mvp_mm.utils.terminal import say_busy


def save_predictions(cfg: Config, out: str) -> None:
    """Add a writer to the evaluator of every dataset."""
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


def evaluate(config: str, checkpoint: str, out: str | None, show_dir: str | None,
             metrics_file: Path | None, overwrite: bool, **run: Any) -> None:
    """Test a checkpoint and write its metrics.

    Args:
        config: Config file, or the name of a shipped one.
        checkpoint: Checkpoint file.
        out: Folder for all predictions.
        show_dir: Folder for pictures of the predictions.
        metrics_file: Where to write the metrics; None for ``metrics.json`` in the work folder.
        overwrite: Whether to replace metrics of another config or checkpoint.
        run: ``work_dir``, ``cfg_options``, ``launcher`` and ``local_rank``.

    Raises:
        Failure: If the config cannot be run, the checkpoint not be read, a file not be written, or
            a dataset not be scored.
    """
    say_busy('checking the config')
    with reported(ConfigError):
        cfg = config_from_args(argparse.Namespace(config=config, **run))
        cfg.load_from, cfg.resume = checkpoint, False
        if out:
            save_predictions(cfg, out)
        if show_dir:
            draw_predictions(cfg, show_dir)
        check_weights('CHECKPOINT', checkpoint)
        check_config(cfg, modes=('test',))
        target = metrics_file or Path(cfg.work_dir) / 'metrics.json'
        source = dict(config=config, checkpoint=checkpoint)
        check_free(target, source, overwrite)
    prepare_processes(cfg, 'test', modes=('test',))
    with run_errors_reported():
        runner = PerceptionRunner.from_cfg(cfg)
        metrics = runner.test()
        problems = getattr(runner.test_loop, 'problems', {})
        if is_main_process() and (metrics or not problems):
            # The source first: metrics without one would block the next test.
            write_text(source_file(target), json.dumps(source, indent=2))
            write_text(target, mmengine.dump(metrics, file_format='json', indent=2,
                                             sort_keys=True))
            print(f'metrics written to {target}')
    leave_processes()
    if problems:
        raise Failure('\n'.join(f'{name}: {text}' for name, text in problems.items()), FAILED)
