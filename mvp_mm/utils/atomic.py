# Copyright (c) mvp_mm authors. All rights reserved.
"""Write files that are there as a whole or not at all, whatever ends the process."""
from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_SUFFIX = '.part'


class WriteError(OSError):
    """A file could not be written (disk full, read-only, …); the message names it."""


@contextmanager
def replacing(path: str | Path,
              verify: Callable[[Path], None] | None = None) -> Iterator[BinaryIO]:
    """Open a temporary file that takes the place of ``path`` when the block ends well.

    The data is flushed to the disk before the rename, and so is the folder after it: after a
    kill or a power loss ``path`` is the old file or the new one. After an error the temporary
    file is gone and ``path`` as before.

    Args:
        path: File to write; its folder is made.
        verify: Called with the temporary file before it takes the place; it raises where the
            file does not read back.

    Yields:
        The open temporary file.

    Raises:
        WriteError: If the operating system refuses, with the path.
    """
    path = Path(path)
    part = path.with_name(f'.{path.name}.{os.getpid()}{_SUFFIX}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, 'wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if verify is not None:
            verify(part)
        os.replace(part, path)
        _sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise WriteError(f'cannot write {path}: {reason}') from error
    finally:
        with suppress(OSError):
            part.unlink()


def _sync_folder(folder: Path) -> None:
    """Flush a folder's entries; file systems that do not offer it are left alone."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in one step.

    Raises:
        WriteError: If the operating system refuses.
    """
    with replacing(path) as file:
        file.write(text.encode('utf-8'))


def write_bytes(path: str | Path, content: bytes | memoryview) -> None:
    """Write bytes in one step; see :func:`replacing`.

    Raises:
        WriteError: If the operating system refuses.
    """
    with replacing(path) as file:
        file.write(content)


def remove_parts(folder: str | Path, pattern: str = '*') -> list[str]:
    """Remove what killed writers have left in a folder.

    Args:
        folder: Where to look; it may be missing.
        pattern: Names of the files that were to be written, with wildcards.

    Returns:
        Names of the removed files.
    """
    found = sorted(Path(folder).glob(f'.{pattern}.*{_SUFFIX}'))
    for part in found:
        part.unlink(missing_ok=True)
    return [part.name for part in found]
