# Copyright (c) mvp_mm authors. All rights reserved.
"""Compare the config of a resumed run with the one that its checkpoint was trained with."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mvp_mm.engine.config_error import join_path
from mvp_mm.engine.config_files import INPUT_FILE_KEYS
from mvp_mm.utils.checkpoint_io import CheckpointError, peek_meta
from mvp_mm.utils.literals import read_literals

# What makes a run another one. Settings of a longer, faster or safer run may change on the way.
_SECTIONS = ('model', 'train_dataloader.dataset', 'train_dataloader.sampler')
_SHOWN = 5
_ABSENT = '(absent)'

Difference = tuple[str, Any, Any]


def check_same_run(cfg: Config, work_dir: str | Path, tell: Callable[[str], None]) -> None:
    """Refuse to continue another config's run in its own folder.

    A checkpoint that lies elsewhere may be continued with other settings, which are told; so are
    files that have moved.

    Args:
        cfg: The config of the resumed run; ``load_from`` is the checkpoint.
        work_dir: The folder that the resumed run writes to.
        tell: Called with one line per kind of difference.

    Raises:
        CheckpointError: If the checkpoint lies in ``work_dir`` and model or training data differ.
    """
    path = cfg.get('load_from')
    if not cfg.get('resume') or not isinstance(path, str) or not Path(path).is_file():
        return
    text = peek_meta(path).get('cfg')
    if not text:
        return
    try:
        stored = read_literals(text)
    except ValueError as error:
        tell(f'{path} is resumed without a look at the config that it was trained with, which is '
             f'more than literals ({error})')
        return
    found = [one for section in _SECTIONS for one in _differences(
        _look_up(stored, section), _look_up(cfg.to_dict(), section), section)]
    moved = [one for one in found if _is_moved(one)]
    changed = [one for one in found if not _is_moved(one)]
    if changed and Path(path).resolve().parent == Path(work_dir).resolve():
        raise CheckpointError(
            f'Cannot resume from {path}: it belongs to a run with other settings: '
            f'{_listed(changed)}. Continue with these settings in a folder of their own '
            f'(--work-dir FOLDER --resume {path}), or start a new run there from the weights '
            f'(--load-from {path})')
    for kind, several in (('other settings', changed), ('files elsewhere', moved)):
        if several:
            tell(f'resumed from {path} with {kind} than it was trained with: {_listed(several)}')


def _look_up(settings: Any, place: str) -> Any:
    for key in place.split('.'):
        settings = settings.get(key) if isinstance(settings, dict) else None
    return settings


def _differences(old: Any, new: Any, place: str) -> Iterator[Difference]:
    """Iterate the settings that two values differ in; lists and tuples are the same."""
    old, new = (list(value) if isinstance(value, tuple) else value for value in (old, new))
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _differences(old.get(key, _ABSENT), new.get(key, _ABSENT),
                                    join_path(place, key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, pair in enumerate(zip(old, new, strict=True)):
            yield from _differences(*pair, join_path(place, number))
    elif old != new:
        yield place, old, new


def _is_moved(difference: Difference) -> bool:
    """Whether both sides name a file, in different folders."""
    place, old, new = difference
    keys = [part.partition('[')[0] for part in place.split('.')]
    if not isinstance(old, str) or not isinstance(new, str) or old == _ABSENT or new == _ABSENT:
        return False
    return keys[-1] == 'data_root' or (
        any(key in INPUT_FILE_KEYS for key in keys[-2:]) and Path(old).name == Path(new).name)


def _listed(differences: list[Difference]) -> str:
    """The first differences in words, and how many more there are."""
    told = [f'{place} was {_short(old)}, now {_short(new)}'
            for place, old, new in differences[:_SHOWN]]
    more = len(differences) - _SHOWN
    return '; '.join(told) + (f'; and {more} more' if more > 0 else '')


def _short(value: Any) -> str:
    text = value if value == _ABSENT else repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'
