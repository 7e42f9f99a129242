# Copyright (c) mvp_mm authors. All rights reserved.
"""Look for the input files that a config names."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mmengine.config import Config

from mvp_mm.engine.config_error import children, join_path
from mvp_mm.engine.replaced_weights import names_given, replaced_files
from mvp_mm.engine.size_check import checkpoint_fault
from mvp_mm.utils.files import join_root

# Keys whose strings are input files, and those of them that a dataset joins with data_root.
INPUT_FILE_KEYS = ('ann_file', 'instances_file', 'caption_store', 'exclude_refs', 'img_dir',
                   'data_prefix', 'data_root', 'pretrained', 'pretrained_path', 'checkpoint',
                   'path')
JOINED_KEYS = INPUT_FILE_KEYS[:6]
# Files that a command of ours writes.
_COMMANDS = {
    'efficientnet_lite0.safetensors':
        'python tools/model_converters/convert_efficientnet.py --out {}',
}


def missing_files(cfg: Config, modes: Sequence[str]) -> Iterator[str]:
    """Look for the input files of everything that will be built.

    Files of weights are left out where ``load_from`` replaces what they would give.
    """
    sections = ['model', *(f'{mode}_{part}' for mode in modes for part in
                           ('dataloader', 'evaluator'))]
    places: dict[str, list[str]] = {}
    start = cfg.get('load_from')
    names = names_given(start if isinstance(start, str) else None)
    replaced = {f'model.{place}' for place in replaced_files(cfg.get('model') or {}, names)}
    for section in sections:
        for path, name in _input_files(cfg.get(section), section):
            if path not in replaced and not Path(name).exists():
                places.setdefault(name, []).append(path)
    for name, paths in places.items():
        more = f' (and {len(paths) - 1} more places)' if len(paths) > 1 else ''
        command = _COMMANDS.get(Path(name).name, '')
        hint = f'; this writes it: {command.format(name)}' if command else ''
        yield f'{paths[0]}{more}: no such file or folder: {name}{hint}'
    if isinstance(start, str) and not Path(start).is_file():
        yield f'load_from: no such file or folder: {start}'
    elif isinstance(start, str) and checkpoint_fault(start):
        yield f'load_from: {checkpoint_fault(start)}'


def _input_files(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Iterate the input files named below ``value``, joined with their ``data_root``."""
    root = value.get('data_root') if isinstance(value, dict) else None
    root = root if isinstance(root, str) else None  # another type is named elsewhere
    for key, child in children(value):
        where = join_path(path, key)
        if key in INPUT_FILE_KEYS:
            for leaf, name in _strings(child, where):
                yield leaf, join_root(root, name) if root and key in JOINED_KEYS else name
        yield from _input_files(child, where)


def _strings(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Iterate the non-empty strings of a string, list or dict."""
    if isinstance(value, str) and value:
        yield path, value
    elif not isinstance(value, dict) or 'type' not in value:
        for key, child in children(value):
            yield from _strings(child, join_path(path, key))
