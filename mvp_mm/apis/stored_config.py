# Copyright (c) mvp_mm authors. All rights reserved.
"""Read the config that weights carry as data: what it names is looked up, never imported.

mmengine builds any dotted ``type``, runs ``custom_imports`` and evaluates base files. A config
that comes with weights is therefore parsed here, and may name registered components alone.
"""
from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry

from mvp_mm.registry import MODELS, TASK_UTILS, TASKS, TOKENIZERS, TRANSFORMS
from mvp_mm.utils.checkpoint_io import CheckpointError
from mvp_mm.utils.literals import read_literals

# All that is built from a stored config; the rest of it is about training.
_BUILT = ('model', 'inferencer')
_REGISTRIES = (MODELS, TASKS, TRANSFORMS, TOKENIZERS, TASK_UTILS)
_TYPE = re.compile(r'(?:(mvp_mm|mmdet)\.)?([A-Za-z_]\w*)')
_INITIALISERS = ('Pretrained', 'Constant', 'Normal', 'TruncNormal', 'Uniform', 'Xavier', 'Kaiming',
                 'Caffe2Xavier', 'PretrainedInit')
_FORBIDDEN = ('_base_', '_scope_', '_delete_', 'custom_imports', 'auto_map')
_PATH_KEYS = re.compile(r'path|pretrained|checkpoint|.*_(?:path|file|dir|folder|root|prefix)|'
                        r'file|filename|folder|root')
# A path, an address, or the dotted name of something in Python.
_REACHES_OUT = re.compile(r'.*[/\\].*|~.*|[A-Za-z][\w+-]*:.*|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+',
                          re.DOTALL)


def config_of(checkpoint: dict[str, Any], path: str | Path) -> Config:
    """The config that mmengine stored in a checkpoint, as far as a model is built from it.

    Args:
        checkpoint: From :func:`~mvp_mm.utils.checkpoint_io.read_checkpoint`.
        path: Where it came from; files that the config names must lie in the same folder.

    Returns:
        ``default_scope``, ``model`` and ``inferencer``.

    Raises:
        CheckpointError: If there is none, if it is more than literals, or if it names anything
            but registered components and files beside the checkpoint.
    """
    text = checkpoint['meta'].get('cfg')
    if not text:
        raise CheckpointError(f'{path} stores no config: name one (--config)')
    return checked_config(_literals(text, path), Path(path).parent, path)


def checked_config(content: dict[str, Any], folder: Path, path: str | Path) -> Config:
    """Make a config of data that came with weights.

    Args:
        content: Settings by name.
        folder: The files that it names must lie here; their paths become absolute.
        path: Where it came from, for messages.

    Raises:
        CheckpointError: If it names anything but registered components and files of the folder.
    """
    imports = content.get('custom_imports')
    # Every config of ours has this one, which is imported already.
    if imports not in (None, dict(imports=['mvp_mm'])):
        raise _refusal(path, 'custom_imports', f'it wants {imports!r} to be imported')
    if content.get('default_scope', 'mvp_mm') != 'mvp_mm':
        raise _refusal(path, 'default_scope', f'{content["default_scope"]!r} is not mvp_mm')
    for key in _FORBIDDEN:
        if key in content and key != 'custom_imports':
            raise _refusal(path, key, 'a stored config is whole and has no such key')
    kept = {key: content[key] for key in _BUILT if content.get(key) is not None}
    for key, value in kept.items():
        if not isinstance(value, dict):
            raise _refusal(path, key, f'it is a {type(value).__name__}, not a dict')
        kept[key] = _checked(value, key, folder, path)
    return Config(dict(default_scope='mvp_mm', **kept))


def _refusal(path: str | Path, where: str, reason: str) -> CheckpointError:
    return CheckpointError(f'The config in {path} is refused: {where}: {reason}. Name a config '
                           'that you trust instead (--config)')


def _literals(text: object, path: str | Path) -> dict[str, Any]:
    try:
        return read_literals(text)
    except ValueError as error:
        raise CheckpointError(f'The config in {path} is more than literals ({error}): name one '
                              'that you trust (--config)') from error


def _checked(value: Any, where: str, folder: Path, path: str | Path, sizes: bool = False) -> Any:
    """Check a value and all below it; paths become absolute.

    Args:
        value: Part of a config.
        where: Its dotted name.
        folder: Where files may lie.
        path: Where the config came from, for messages.
        sizes: Whether these are the sizes of an LLM, of which no component is built.
    """
    if isinstance(value, (list, tuple)):
        return type(value)(_checked(child, f'{where}[{number}]', folder, path, sizes)
                           for number, child in enumerate(value))
    if not isinstance(value, dict):
        return value if not isinstance(value, str) else _string(value, where, folder, path)
    if 'type' in value and not sizes:
        _check_type(value['type'], f'{where}.type', path)
    result = {}
    for key, child in value.items():
        place = f'{where}.{key}'
        if key in _FORBIDDEN or (key == 'trust_remote_code' and child):
            raise _refusal(path, place, 'a stored config may not say so')
        if key == '_name_or_path':
            continue  # where an LLM once came from
        if key == 'type' and not sizes:
            result[key] = child
        elif str(key).endswith('_type') and isinstance(child, str) and not sizes:
            _check_type(child, place, path)
            result[key] = child
        else:
            inside = sizes or (key == 'config' and value.get('type') == 'CausalLM')
            result[key] = _checked(child, place, folder, path, inside)
    return result


def _string(value: str, where: str, folder: Path, path: str | Path) -> str:
    """Check a string; one that names a file becomes absolute."""
    key = re.sub(r'\[\d+\]', '', where).rpartition('.')[2]
    if _PATH_KEYS.fullmatch(key) and value:
        return _inside(value, where, folder, path)
    if key == 'model_name' and not re.search(r'[/\\:]', value):
        return value  # timm's names have dots
    if _REACHES_OUT.fullmatch(value):
        raise _refusal(path, where, f'{value!r} is a path, an address or a name of Python')
    return value


def _inside(value: str, where: str, folder: Path, path: str | Path) -> str:
    """The absolute path of a file in a folder.

    Raises:
        CheckpointError: If it lies elsewhere, or is not there.
    """
    root = folder.resolve()
    target = (root / value).resolve()
    if target != root and root not in target.parents:
        raise _refusal(path, where, f'{value!r} lies outside of its folder')
    if not target.exists():
        raise _refusal(path, where, f'{value!r} is not beside the weights')
    return str(target)


def _check_type(kind: object, where: str, path: str | Path) -> None:
    match = _TYPE.fullmatch(kind) if isinstance(kind, str) else None
    if match is None:
        raise _refusal(path, where, f'{kind!r} is no name of a registered component')
    scope, name = match.groups()
    if name in _INITIALISERS and scope is None:
        return
    if not any(name in registry.module_dict for registry in _searched(scope)):
        raise _refusal(path, where, f'{kind!r} is not registered')


def _searched(scope: str | None) -> Iterator[Registry]:
    """The registries in which mmengine would look a name up, their modules imported."""
    for registry in _REGISTRIES:
        if scope == 'mmdet':
            children = registry.parent.children if registry.parent is not None else {}
            found = [children['mmdet']] if 'mmdet' in children else []
        else:
            found = [registry]
            if scope is None and registry.parent is not None:
                found.append(registry.parent)
        for one in found:
            one.import_from_location()
            yield one
