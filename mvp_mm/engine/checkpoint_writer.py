# Copyright (c) mvp_mm authors. All rights reserved.
"""Write checkpoints that are whole and read back before they get their name."""
from __future__ import annotations

import copy
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from mmengine.logging import print_log
from torch import Tensor

from mvp_mm.utils.atomic import replacing
from mvp_mm.utils.checkpoint_format import check_sums, check_zip


class CheckpointWriter:
    """Writes one checkpoint at a time: temporary file, flush, read back, rename.

    Args:
        asynchronous: Write in a thread, from a copy of the state in memory. The thread holds
            Python's lock for the small part of its work that is Python; the next write waits for
            it.
    """

    def __init__(self, asynchronous: bool = False) -> None:
        self.asynchronous = asynchronous
        self._outdated: list[Path] = []
        self._finish: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def finish_with(self, action: Callable[[], None]) -> None:
        """Do something once the next checkpoint is safe."""
        self._finish = action

    def remove(self, path: str | Path) -> None:
        """Remove a file once the next checkpoint is safe."""
        self._outdated.append(Path(path))

    def write(self, content: dict[str, Any] | bytes, path: str | Path) -> None:
        """Write a checkpoint.

        Args:
            content: The state of a run, or the bytes of a file.
            path: The file.

        Raises:
            WriteError: If this one, or without waiting the one before, cannot be written.
        """
        self.wait()
        outdated, self._outdated = self._outdated, []
        finish, self._finish = self._finish, None
        if not self.asynchronous:
            self._write(content, Path(path), outdated, finish)
            return
        self._thread = threading.Thread(
            target=self._write_aside, name='checkpoint',
            args=(snapshot(content), Path(path), outdated, finish))
        self._thread.start()

    def wait(self) -> None:
        """Wait for the thread; raise what it ended with."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.raise_error()

    def raise_error(self) -> None:
        """Raise what a thread has ended with, without waiting for one that runs."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _write_aside(self, *job: Any) -> None:
        try:
            self._write(*job)
        except BaseException as error:  # handed to the thread that trains
            self._error = error
            # A run that ends by another error does not come to ask for this one.
            print_log(str(error), 'current', logging.ERROR)

    @staticmethod
    def _write(content: dict[str, Any] | bytes, path: Path, outdated: list[Path],
               finish: Callable[[], None] | None) -> None:
        with replacing(path, verify=_read_back) as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                _save(content, file)
        if finish is not None:
            finish()
        for old in outdated:
            if old != path:
                old.unlink(missing_ok=True)


def snapshot(state: Any) -> Any:
    """Copy a state in memory; tensors that share memory share it in the copy too.

    What ``copy.deepcopy`` gives, but tensors that are alone in their memory, nearly all of them,
    are copied without its work in Python, which takes longer than the copying.
    """
    tensors = list(_tensors(state))
    storages = [tensor.untyped_storage() for tensor in tensors]
    users = Counter(storage.data_ptr() for storage in storages)
    alone = {id(tensor): tensor.clone() for tensor, storage in zip(tensors, storages, strict=True)
             if users[storage.data_ptr()] == 1 and tensor.is_contiguous()
             and storage.nbytes() == tensor.nbytes}
    return copy.deepcopy(state, alone)


def _tensors(tree: Any) -> Iterator[Tensor]:
    """Iterate the tensors of nested containers."""
    if type(tree) is Tensor:
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from _tensors(value)
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            yield from _tensors(value)


def _read_back(path: Path) -> None:
    check_zip(path)
    check_sums(path)


def _save(content: dict[str, Any], file: BinaryIO) -> None:
    """Write a state in torch's format, without a second copy in memory.

    Raises:
        OSError: If the operating system refuses.
    """
    sink = _Sink(file)
    try:
        torch.save(content, sink)
    except Exception:
        if sink.error is not None:
            raise sink.error from None
        raise


class _Sink:
    """Passes on what torch writes; keeps the system's error, of which torch makes another."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.flush = file.flush
        self.error: OSError | None = None

    def write(self, data: memoryview) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise
