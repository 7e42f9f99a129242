# Copyright (c) mvp_mm authors. All rights reserved.
"""Verify datasets: records, boxes, masks, maps and image files. Exit code 1 where there are faults.

Examples::

    python tools/data/check_dataset.py data/coco --format coco_panoptic_train --workers 8
    python tools/data/check_dataset.py configs/mvplm/stage2.py --dataset train_dataloader
    python tools/data/check_dataset.py configs/mvplm/stage2.py --dataset refcoco_train
"""
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mvp_mm.datasets  # noqa: F401  registers the datasets
from mvp_mm.datasets.checks import can_be_checked, check_dataset
from mvp_mm.engine.config_loading import load_config, load_datasets

DATASET_CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / '_base_' / 'datasets.py'


def dataset_configs(value: Any, path: str = '') -> Iterator[tuple[str, dict[str, Any]]]:
    """Every dataset config below a value, with its dotted path."""
    if can_be_checked(value):
        yield path, value
    elif isinstance(value, dict):
        for key, child in value.items():
            yield from dataset_configs(child, f'{path}.{key}' if path else str(key))
    elif isinstance(value, (list, tuple)):
        for key, child in enumerate(value):
            yield from dataset_configs(child, f'{path}.{key}')


def known_formats() -> dict[str, dict[str, Any]]:
    """The project's own dataset configs by name."""
    return dict(dataset_configs(load_datasets(DATASET_CONFIGS)))


def below(entries: dict[str, dict[str, Any]], key: str) -> dict[str, dict[str, Any]]:
    """The entries at a dotted path or below it."""
    return {name: cfg for name, cfg in entries.items() if name == key or name.startswith(key + '.')}


def from_config(path: Path, key: str | None) -> dict[str, dict[str, Any]]:
    """Dataset configs of a config file, each once.

    Raises:
        ValueError: If there is none.
    """
    named = dict(dataset_configs(load_datasets(path)))
    entries = dict(dataset_configs(load_config(path).to_dict()))
    # Those that the config knows by name count where no data loader reads any.
    chosen = (entries or named) if key is None else (below(named, key) or below(entries, key))
    if not chosen:
        raise ValueError(f'{path}: no dataset {"at " + key if key else ""}; there are '
                         f'{sorted(entries)} and {sorted(named)}')
    return distinct(chosen)


def distinct(entries: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Without entries that read the same files."""
    ignored = ('tasks', 'pipeline', 'test_mode', 'caption_store', 'exclude_refs')
    seen: dict[str, str] = {}
    for name, cfg in entries.items():
        files = {key: value for key, value in cfg.items() if key not in ignored}
        seen.setdefault(json.dumps(files, sort_keys=True, default=str), name)
    return {name: entries[name] for name in seen.values()}


def from_root(root: Path, name: str | None) -> dict[str, dict[str, Any]]:
    """The project's configs of a format, moved to a folder.

    Raises:
        ValueError: If the format is unknown.
    """
    formats = known_formats()
    chosen = below(formats, name) if name else {}
    if not chosen:
        raise ValueError(f'{root} needs --format, one of: {", ".join(formats)}')
    return distinct({key: dict(cfg, data_root=str(root)) for key, cfg in chosen.items()})


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', type=Path, help='config file, or folder of a dataset')
    parser.add_argument('--format', help='for a folder: name of a dataset of '
                        'configs/_base_/datasets.py')
    parser.add_argument('--dataset', help='for a config: name, or dotted path, of the datasets '
                        'to check')
    parser.add_argument('--data-root', help='for a config: folder that takes the place of its own')
    parser.add_argument('--workers', type=int, default=0, help='processes that check files')
    parser.add_argument('--examples', type=int, default=5, help='faults shown of each kind')
    parser.add_argument('--out', type=Path, help='JSON file for the report with every fault')
    args = parser.parse_args()
    if not args.source.exists():
        parser.error(f'{args.source} does not exist')
    if args.source.is_dir() and (args.dataset or args.data_root):
        parser.error('--dataset and --data-root go with a config, not with a folder')
    if args.source.is_file() and args.format:
        parser.error('--format goes with a folder, not with a config')
    return args


def main() -> None:
    """Check the datasets and report."""
    args = parse_args()
    try:
        if args.source.is_dir():
            entries = from_root(args.source, args.format)
        else:
            entries = from_config(args.source, args.dataset)
    except ValueError as error:
        print(f'check_dataset: error: {error}', file=sys.stderr)
        sys.exit(2)
    reports = []
    for name, cfg in entries.items():
        if args.data_root:
            cfg = dict(cfg, data_root=args.data_root)
        report = check_dataset(cfg, name, workers=args.workers, progress=sys.stderr.isatty())
        print(report.text(args.examples))
        reports.append(report)
    if args.out:
        args.out.write_text(json.dumps([report.to_dict() for report in reports], indent=1) + '\n')
    sys.exit(1 if any(report.faults for report in reports) else 0)


if __name__ == '__main__':
    main()
