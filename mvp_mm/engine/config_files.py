# Copyright (c) mvp_mm authors. All rights reserved.
"""Look for the input files that a config names."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mmengine.config import Config

from mvp_mm.engine.config_error import ConfigError, children, join_path, walk_dicts
from mvp_mm.engine.replaced_weights import names_given, replaced_files
from mvp_mm.engine.size_check import checkpoint_fault
from mvp_mm.utils.checkpoint_format import CheckpointError
from mvp_mm.utils.files import join_root
from mvp_mm.utils.named_weights import weights_file

# Keys whose strings are input files, and those of them that a dataset joins with data_root.
INPUT_FILE_KEYS = ('ann_file', 'instances_file', 'caption_store', 'exclude_refs', 'img_dir',
                   'data_prefix', 'data_root', 'pretrained', 'pretrained_path', 'checkpoint',
                   'path')
JOINED_KEYS = INPUT_FILE_KEYS[:6]
# A folder that is missing is named in place of its files where there are so many.
_SEVERAL = 3
# Files and folders that a command of ours writes.
_COMMANDS = {
    'efficientnet_lite0.safetensors':
        'python tools/model_converters/convert_efficientnet.py --out {}',
}

_FOLDERS = {
    'data/synthetic': 'bash tools/quickstart.sh draws it, or python '
                      'tools/data/make_synthetic_world.py --out data/synthetic',
}


def missing_files(cfg: Config, modes: Sequence[str]) -> Iterator[str]:
    """Look for the input files of everything that will be built.

    Files of weights are left out where ``load_from`` replaces what they would give.
    """
    sections = ['model', *(f'{mode}_{part}' for mode in modes for part in
                           ('dataloader', 'evaluator'))]
    places: dict[str, list[str]] = {}
    roots: dict[str, None] = {}
    start = cfg.get('load_from')
    names = names_given(start if isinstance(start, str) else None)
    replaced = {f'model.{place}' for place in replaced_files(cfg.get('model') or {}, names)}
    for section in sections:
        roots.update(dict.fromkeys(_data_roots(cfg.get(section), section)))
        for path, name in _input_files(cfg.get(section), section):
            if path not in replaced and not Path(name).exists():
                places.setdefault(name, []).append(path)
    for root in [root for root in roots if not Path(root).exists()]:
        inside = [name for name in places if name.startswith(root.rstrip('/') + '/')]
        if len(inside) >= _SEVERAL:
            gone = [path for name in inside for path in places.pop(name)]
            gone += places.pop(root, [])
            hint = f'; {_FOLDERS[root.rstrip("/")]}' if root.rstrip('/') in _FOLDERS else ''
            yield (f'{gone[0]}{_more(gone)}: no such folder: {root}, in which {len(inside)} files '
                   f'are looked for, such as {inside[0]}{hint}')
    for name, paths in places.items():
        command = _COMMANDS.get(Path(name).name, '')
        hint = f'; this writes it: {command.format(name)}' if command else ''
        yield f'{paths[0]}{_more(paths)}: no such file or folder: {name}{hint}'
    fault = weights_fault(start) if isinstance(start, str) else None
    if fault:
        yield f'load_from: {fault}'


def _more(paths: Sequence[str]) -> str:
    return f' (and {len(paths) - 1} more places)' if len(paths) > 1 else ''


def check_weights(name: str, path: str) -> None:
    """Refuse a checkpoint that a command was given.

    Args:
        name: The option or argument, for the message.
        path: What was given.

    Raises:
        ConfigError: If it cannot be a checkpoint.
    """
    fault = weights_fault(path)
    if fault:
        raise ConfigError(f'{name}: {fault}')


def weights_fault(path: str) -> str | None:
    """Tell why something cannot be a checkpoint, without reading its tensors; None if it may be.

    Args:
        path: See :func:`~mvp_mm.utils.named_weights.find_weights`.
    """
    try:
        return checkpoint_fault(weights_file(path))
    except (FileNotFoundError, CheckpointError) as error:
        return str(error)


def _data_roots(value: object, path: str) -> Iterator[str]:
    """Iterate the folders of data below ``value``."""
    for _, part in walk_dicts(value, path):
        if isinstance(part.get('data_root'), str) and part['data_root']:
            yield part['data_root']


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
