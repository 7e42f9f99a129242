# Copyright (c) mvp_mm authors. All rights reserved.
"""Verification of the datasets of a config or a folder."""
from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mvp_mm.datasets  # noqa: F401  registers the datasets
from mvp_mm.cli.command import FAILED, reported
from mvp_mm.datasets.checks import can_be_checked, check_dataset
from mvp_mm.engine.config_loading import load_config, load_datasets


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
    return dict(dataset_configs(load_datasets('configs/_base_/datasets.py')))


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
        known = sorted({*entries, *named})
        raise ValueError(f'{path}: no dataset of a known type{f" at {key}" if key else ""}'
                         + (f'; there are {known}' if known else ''))
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


def check_datasets(source: Path, name: str | None, dataset: str | None, data_root: str | None,
                   workers: int, examples: int, out: Path | None) -> int:
    """Check datasets and print a report of each.

    Args:
        source: A config, or the folder of a dataset.
        name: For a folder: name of its format.
        dataset: For a config: name or dotted path of the datasets to check; None for all.
        data_root: For a config: folder that takes the place of its own.
        workers: Processes that check files.
        examples: Faults shown of each kind.
        out: JSON file for the report with every fault.

    Returns:
        1 where there are faults, else 0.

    Raises:
        Failure: If there is no such dataset, or its files cannot be read.
    """
    with reported(ValueError, OSError):
        entries = from_root(source, name) if source.is_dir() else from_config(source, dataset)
    reports = []
    for path, cfg in entries.items():
        if data_root:
            cfg = dict(cfg, data_root=data_root)
        report = check_dataset(cfg, path, workers=workers, progress=sys.stderr.isatty())
        print(report.text(examples))
        reports.append(report)
    if out:
        out.write_text(json.dumps([report.to_dict() for report in reports], indent=1) + '\n')
    return FAILED if any(report.faults for report in reports) else 0
