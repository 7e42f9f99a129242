# Copyright (c) mvp_mm authors. All rights reserved.
"""Unpickle tensors, arrays and plain data; look up nothing else."""
from __future__ import annotations

import collections
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy._core import multiarray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mvp_mm.utils.checkpoint_format import CheckpointError, check_sums

_DTYPES = tuple(type(np.dtype(code)) for code in '?bBhHiIlLqQefdFDUS')


class HoldsObjectsError(CheckpointError):
    """A file with Python objects that reading it would have to run."""

    def __init__(self, path: str | Path, name: str) -> None:
        super().__init__(
            f'{path} holds a Python object ({name}), as whole pickled models do, and not tensors '
            'and plain data alone; nothing of it was run. Save the state_dict() of the model')


class StoredHistory:
    """Stands for mmengine's HistoryBuffer while a file is read: its numbers, no behaviour."""

    def numbers(self) -> tuple[list[float], list[float], int]:
        """Values, their counts, and the length that is kept.

        Raises:
            ValueError: If they are not numbers.
        """
        stored = vars(self)
        values, counts = (np.asarray(stored.get(key)) for key in ('_log_history', '_count_history'))
        length = stored.get('max_length')
        if (values.shape != counts.shape or values.ndim != 1 or not isinstance(length, int)
                or values.dtype.kind not in 'biuf' or counts.dtype.kind not in 'biuf'):
            raise ValueError('a history of logged values is not sound')
        return values.tolist(), counts.tolist(), length


def _no_attribute(owner: object, name: str) -> None:
    """Stand for ``getattr``, by which mmengine's histories name their own methods."""


def _safe_globals() -> list[Any]:
    """What mmengine's checkpoints hold beside tensors.

    mmengine's own list has the real ``getattr``, which leads from any class to all of Python.
    """
    return [
        slice, np.ndarray, np.dtype, *_DTYPES,
        *((function, f'numpy.{core}.multiarray.{function.__name__}')
          for core in ('core', '_core')
          for function in (multiarray._reconstruct, multiarray.scalar)),
        (StoredHistory, 'mmengine.logging.history_buffer.HistoryBuffer'),
        (_no_attribute, 'builtins.getattr'), (_no_attribute, '__builtin__.getattr'),
    ]


def load_torch(path: Path, kind: str, check: bool = True) -> object:
    """Load a file of ``torch.save``.

    Args:
        path: The file.
        kind: ``zip`` or ``legacy``.
        check: Compare checksums, and so read every byte, before anything is loaded.

    Raises:
        HoldsObjectsError: If it holds more than tensors and plain data.
        CheckpointError: If it is damaged.
    """
    mapped = kind == 'zip' and (check_sums(path) if check else True)
    try:
        with torch.serialization.safe_globals(_safe_globals()):
            return torch.load(path, map_location='cpu', weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        _check_whole(path, kind)
        found = re.search(r"(?:GLOBAL|[Cc]lass) '?([\w.]+)", str(error))
        if found is None:
            raise CheckpointError(f'{path} is damaged, or made to deceive: its pickle does what '
                                  'no file of weights does') from error
        raise HoldsObjectsError(path, found[1]) from error
    except Exception as error:  # torch raises whatever the broken bytes provoke
        raise CheckpointError(f'{path} is cut off or damaged: {_first_line(error)}') from error


def _check_whole(path: Path, kind: str) -> None:
    """Refuse a pickle that ends too early; its operations are read, not carried out.

    Raises:
        CheckpointError: If it is cut off.
    """
    if kind == 'zip':
        return  # by its checksum
    try:
        with open(path, 'rb') as file:
            # Before the content, torch writes a magic number, a protocol and word sizes.
            for _ in range(4 if kind == 'legacy' else 1):
                for _ in pickletools.genops(file):
                    pass
    except Exception as error:  # broken bytes provoke nearly any type
        raise CheckpointError(f'{path} is cut off or damaged: {_first_line(error)}') from error


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """Load a file of safetensors.

    Raises:
        CheckpointError: If it is damaged.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f'{path} is cut off or damaged: {_first_line(error)}') from error


class _ArrayUnpickler(pickle.Unpickler):
    """Admits arrays and plain containers (detectron2's model zoo)."""

    _ALLOWED = {
        ('numpy', 'ndarray'): np.ndarray, ('numpy', 'dtype'): np.dtype,
        ('collections', 'OrderedDict'): collections.OrderedDict,
        **{(f'numpy.{core}.multiarray', name): getattr(multiarray, name)
           for core in ('core', '_core') for name in ('_reconstruct', 'scalar')},
    }

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding='latin1')

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ('_codecs', 'encode'):
            return _encode_latin1
        if module in ('numpy.core.numeric', 'numpy._core.numeric') and name == '_frombuffer':
            return _array_of_buffer
        if (module, name) not in self._ALLOWED:
            raise _Refused(f'{module}.{name}')
        return self._ALLOWED[module, name]


class _Refused(pickle.UnpicklingError):
    """Carries the name of what a pickle wanted to have."""


def _encode_latin1(text: str, encoding: str = 'latin1') -> bytes:
    """How pickles of protocol 2 hold bytes."""
    if encoding != 'latin1':
        raise _Refused(f'_codecs.encode with {encoding!r}')
    return text.encode('latin1')


def _array_of_buffer(buffer: bytes, dtype: np.dtype, shape: tuple[int, ...], order: str,
                     *_: Any) -> np.ndarray:
    """How pickles of protocol 5 hold arrays."""
    return np.frombuffer(bytearray(buffer), dtype=dtype).reshape(shape, order=order)


def load_plain(path: Path) -> object:
    """Load a pickle without torch's container.

    Raises:
        HoldsObjectsError: If it holds more than arrays and plain data.
        CheckpointError: If it is damaged.
    """
    try:
        with open(path, 'rb') as file:
            return _ArrayUnpickler(file).load()
    except _Refused as error:
        _check_whole(path, 'pickle')
        raise HoldsObjectsError(path, str(error)) from error
    except Exception as error:  # a malformed pickle raises nearly any type
        raise CheckpointError(f'{path} is cut off or damaged: {_first_line(error)}') from error


def _first_line(error: Exception) -> str:
    """The first sentence of an error, or its type; no advice to switch a safeguard off."""
    text = str(error).strip().splitlines()
    line = re.split(r'\. |weights_only', text[0])[0].strip() if text else ''
    return line or type(error).__name__
