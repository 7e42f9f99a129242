# Copyright (c) mvp_mm authors. All rights reserved.
"""Find the checkpoint of a run folder that a resumed run continues."""
from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from mvp_mm.engine.config_error import ConfigError
from mvp_mm.utils.checkpoint_io import CheckpointError, peek_meta, read_checkpoint

_NAME = re.compile(r'(?:iter|epoch)_(\d+)\.pth')


def find_resumable(folder: str | Path, tell: Callable[[str], None] = print,
                   wanted: Callable[[Path], bool] | None = None) -> str | None:
    """Find the newest checkpoint of a run that is whole and finite.

    ``last_checkpoint`` is a hint that a kill may have left empty, or that names a file which is
    gone: the checkpoints themselves decide, the last saved first.

    Args:
        folder: The run folder.
        tell: Called with one line per checkpoint that is passed over.
        wanted: Says whether a checkpoint may be taken; others are left out without a word.

    Returns:
        Its path; None if the folder has none.

    Raises:
        ConfigError: If there are checkpoints, and none of them can be taken.
    """
    folder = Path(folder)
    reasons = []
    for path in _newest_first(folder):
        if wanted is not None and not wanted(path):
            continue
        try:
            checkpoint = read_checkpoint(path)
            if 'optimizer' not in checkpoint or 'iter' not in checkpoint['meta']:
                raise CheckpointError(f'{path} holds weights, but not the state of a run')
        except (CheckpointError, OSError) as error:
            reasons.append(' '.join(str(error).split()))
            tell(f'--resume: passed over: {reasons[-1]}')
            continue
        return str(path)
    if reasons:
        raise ConfigError(f'--resume: no checkpoint in {folder} can be continued: '
                          + '; '.join(reasons))
    return None


def list_checkpoints(folder: str | Path) -> list[tuple[str, float]]:
    """List the checkpoints of a run folder.

    Args:
        folder: The run folder.

    Returns:
        Path, and the time at which it was saved, of each, the last saved first.
    """
    return [describe_checkpoint(path) for path in _newest_first(Path(folder))]


def describe_checkpoint(path: Path) -> tuple[str, float]:
    """Tell a checkpoint from another of its name: its path, and when it was saved."""
    return str(path), _saved_at(path)


def _newest_first(folder: Path) -> list[Path]:
    """Checkpoints by the time at which they were saved, which copying a folder keeps."""
    found = [path for path in folder.glob('*.pth') if _NAME.fullmatch(path.name)]
    pointer = _pointed_at(folder)
    if pointer is not None and pointer not in found:
        found.append(pointer)
    return sorted(found, key=lambda path: (_saved_at(path), _step(path)), reverse=True)


def _pointed_at(folder: Path) -> Path | None:
    """The file that ``last_checkpoint`` names, if there is one; elsewhere than in the folder."""
    try:
        text = (folder / 'last_checkpoint').read_text(encoding='utf-8').strip()
    except (OSError, UnicodeDecodeError):
        return None
    path = folder / text
    return path if text and path.is_file() and path.parent != folder else None


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def _saved_at(path: Path) -> float:
    """When a checkpoint was saved: as it says itself, else the date of its file."""
    saved = peek_meta(path).get('saved_at')
    return saved if isinstance(saved, float) else path.stat().st_mtime
