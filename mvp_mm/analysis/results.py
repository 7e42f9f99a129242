# Copyright (c) mvp_mm authors. All rights reserved.
"""Write figures to files that say what made them: command, commit, config, weights, hardware."""
from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from mvp_mm.utils.atomic import write_text
from mvp_mm.utils.named_weights import weights_file
from mvp_mm.utils.shipped import shipped_root
from mvp_mm.version import __version__

_CPU_INFO = Path('/proc/cpuinfo')


def write_result(path: str | Path, figures: Mapping[str, Any], *, config: Config | None = None,
                 weights: str | Path | None = None, seeds: Sequence[int] = (),
                 settings: Mapping[str, Any] | None = None, seconds: float | None = None) -> None:
    """Write a result file.

    Args:
        path: The JSON file.
        figures: Nested dicts of numbers; floats are kept to four decimals.
        config: What the model and data were built from.
        weights: The weights (:func:`~mvp_mm.utils.named_weights.weights_file`).
        seeds: Seeds of training, or of what was drawn.
        settings: What else decided the figures.
        seconds: How long the measuring took.
    """
    content: dict[str, Any] = dict(
        command=command_line(), version=__version__, **commit(), hardware=hardware(),
        settings=dict(settings or {}), seeds=list(seeds))
    if config is not None:
        content['config'] = dict(file=_relative(config.filename), sha256=config_hash(config))
    if weights is not None:
        weights = weights_file(weights)
        content['weights'] = dict(file=_relative(weights), sha256=file_hash(weights))
    if seconds is not None:
        content['seconds'] = round(seconds)
    content['figures'] = _rounded(figures)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + '\n')


def command_line() -> str:
    """Write the command of this process, its files relative to the repository or by their names."""
    words = [_relative(word) or '' if os.path.isabs(word) else word for word in sys.argv[1:]]
    return shlex.join(['python', _relative(sys.argv[0]) or '', *words])


def commit() -> dict[str, Any]:
    """Tell the commit, and whether tracked files differ from it; None outside of a checkout."""
    def git(*arguments: str) -> str | None:
        try:
            return subprocess.run(['git', '-C', str(shipped_root()), *arguments], check=True,
                                  capture_output=True, text=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None
    changed = git('status', '--porcelain', '--untracked-files=no')
    return dict(commit=git('rev-parse', 'HEAD'), changed=None if changed is None else changed != '')


def hardware() -> dict[str, Any]:
    """Describe the machine and the threads in use."""
    model = platform.processor()
    if _CPU_INFO.is_file():
        names = [line.partition(':')[2].strip() for line in _CPU_INFO.read_text().splitlines()
                 if line.startswith('model name')]
        model = names[0] if names else model
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return dict(cpu=model, cores=len(os.sched_getaffinity(0)), threads=torch.get_num_threads(),
                gpus=gpus, torch=torch.__version__)


def config_hash(config: Config) -> str:
    """Hash what a config says, whatever its layout and the place of the checkout."""
    text = json.dumps(config.to_dict(), sort_keys=True, default=str)
    return hashlib.sha256(text.replace(f'{shipped_root()}/', '').encode()).hexdigest()


def file_hash(path: str | Path) -> str:
    """Hash a file (SHA-256)."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(1 << 24):
            digest.update(chunk)
    return digest.hexdigest()


def _relative(path: str | Path | None) -> str | None:
    """Name a file of the repository from its root, another by its name alone."""
    if path is None:
        return None
    full = Path(path).resolve()
    root = shipped_root().resolve()
    return str(full.relative_to(root)) if full.is_relative_to(root) else full.name


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _rounded(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(child) for child in value]
    if hasattr(value, 'item'):
        value = value.item()
    return round(value, 4) if isinstance(value, float) else value
