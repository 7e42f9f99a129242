# Copyright (c) mvp_mm authors. All rights reserved.
"""Folders of tables made once from a source: where they lie, who makes them, who trusts them.

An index is a folder of files with ``meta.json``, which tells what it was made from and how long
every file is. It is written under another name and renamed when complete, by one process while
the others wait. An index of another source, format or length is made anew.
"""
from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from mmengine.logging import print_log

from mvp_mm.utils.atomic import WriteError

FORMAT = 1
INDEX_DIR_VARIABLE = 'MVP_MM_INDEX_DIR'
_META = 'meta.json'


class FileRows:
    """Rows of one type in a file; what is asked for is read, nothing is kept in memory.

    May be shared by forked processes and pickled to others.

    Args:
        path: The file.
        dtype: Type of a row.
    """

    def __init__(self, path: str | Path, dtype: np.dtype) -> None:
        self.path = str(path)
        self.dtype = np.dtype(dtype)
        self._length = Path(path).stat().st_size // self.dtype.itemsize
        self._file: int | None = None

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, rows: slice) -> np.ndarray:
        """A run of rows, (n,) read-only."""
        start, stop, _ = rows.indices(self._length)
        if self._file is None:
            self._file = os.open(self.path, os.O_RDONLY)
        width = self.dtype.itemsize
        data = os.pread(self._file, max(stop - start, 0) * width, start * width)
        return np.frombuffer(data, dtype=self.dtype)

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__, _file=None)

    def __del__(self) -> None:
        if getattr(self, '_file', None) is not None:
            os.close(self._file)


def index_folder(source: str | Path, name: str, index_dir: str | Path | None = None) -> Path:
    """Where the index of a file or folder lies.

    That is, in this order: in ``index_dir``; in the folder that the variable
    ``MVP_MM_INDEX_DIR`` names; beside the source; where that folder cannot be written, in
    ``$XDG_CACHE_HOME/mvp_mm`` (``~/.cache/mvp_mm``).

    Args:
        source: The file or folder.
        name: Tells indices of one source apart.
        index_dir: A folder for indices.
    """
    source = Path(source).resolve()
    chosen = index_dir or os.environ.get(INDEX_DIR_VARIABLE)
    if not chosen and os.access(source.parent, os.W_OK):
        return source.with_name(f'{source.name}.{name}.index')
    if not chosen:
        chosen = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'mvp_mm'
    place = hashlib.sha256(str(source.parent).encode()).hexdigest()[:12]
    return Path(chosen) / f'{source.name}.{place}.{name}.index'


def options_digest(options: Any) -> str:
    """Eight characters that tell options apart in the name of an index, from JSON's types."""
    return hashlib.sha256(json.dumps(options).encode()).hexdigest()[:8]


def open_index(source: str | Path, name: str, options: dict[str, Any],
               build: Callable[[Path], dict[str, Any]],
               index_dir: str | Path | None = None,
               files: Callable[[], Iterable[Path]] | None = None) -> tuple[Path, dict[str, Any]]:
    """Find the index of a source, or make it.

    Args:
        source: The file or folder.
        name: Tells indices of one source apart.
        options: What else the content depends on, as JSON can hold it.
        build: Writes the index' files into a folder and returns facts that are kept with them.
        index_dir: See :func:`index_folder`.
        files: Lists the files that the source is made of; by default it is one file.

    Returns:
        The folder and the facts.

    Raises:
        ValueError: If the source changes while it is read.
    """
    folder = index_folder(source, name, index_dir)
    def signature() -> dict[str, Any]:
        return _signature(Path(source), files() if files else [Path(source)], options)

    meta = _valid_meta(folder, signature())
    if meta is None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f'{folder}.lock'):
            meta = _valid_meta(folder, signature())
            if meta is None:
                meta = _make(folder, source, signature, build)
    return folder, meta['facts']


def _signature(source: Path, files: Iterable[Path], options: dict[str, Any]) -> dict[str, Any]:
    stats = [(os.path.relpath(file, source.parent), file.stat().st_size, file.stat().st_mtime_ns)
             for file in files]
    # Through JSON, as it is compared with what was read from JSON.
    return json.loads(json.dumps(dict(format=FORMAT, files=stats, options=options)))


def _valid_meta(folder: Path, signature: dict[str, Any]) -> dict[str, Any] | None:
    """The description of an index that is whole and up to date, else None."""
    try:
        meta = json.loads((folder / _META).read_bytes())
        whole = all((folder / name).stat().st_size == size for name, size in meta['files'].items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return meta if whole and meta.get('signature') == signature else None


def _make(folder: Path, source: str | Path, signature: Callable[[], dict[str, Any]],
          build: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Build under another name, then take the index' place; called by one process at a time."""
    print_log(f'Indexing {source} once, into {folder}', logger='current')
    prefix = f'{folder.name}.part-'
    for left in folder.parent.iterdir():
        # A process that was killed while it built here: whoever builds now holds the lock.
        if left.name.startswith(prefix):
            shutil.rmtree(left)
    temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    before = signature()
    try:
        facts = build(temporary)
        if signature() != before:
            raise ValueError(f'{source} changed while it was indexed: is someone writing it?')
        meta = dict(signature=before, facts=facts,
                    files={file.name: file.stat().st_size for file in temporary.iterdir()})
        (temporary / _META).write_text(json.dumps(meta))
        for file in temporary.iterdir():
            with file.open('rb') as handle:
                os.fsync(handle.fileno())
        temporary.chmod(0o755)
        if folder.exists():
            # Processes that have the old files open go on reading them.
            shutil.rmtree(folder)
        temporary.rename(folder)
    except OSError as error:
        # What is missing beside the source says so itself.
        missing = isinstance(error, FileNotFoundError) and error.errno is None
        if missing or error.filename is not None and Path(error.filename) == Path(source):
            raise
        # numpy tells neither the cause nor its number.
        reason = error.strerror or f'{error}; is the disk full?'
        raise WriteError(f'cannot write {folder}: {reason}') from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return json.loads(json.dumps(meta))
