# Copyright (c) mvp_mm authors. All rights reserved.
"""Reading of annotation files, with messages that name the file and the record."""
from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from mvp_mm.utils.faults import Faults


def check_annotation_file(path: str | Path) -> None:
    """Refuse a file of annotations that is missing or a folder.

    Raises:
        FileNotFoundError: If it is; says which.
    """
    path = Path(path)
    if path.is_dir():
        raise FileNotFoundError(f'Annotation file {path} is a folder; formats of several files '
                                f'are read by: mvp-mm data {path} --out DIR')
    if not path.is_file():
        raise FileNotFoundError(f'Annotation file {path} does not exist')


def join_root(root: str | Path, path: str | Path) -> str:
    """Join a path of a config to its data root.

    ``..`` leads to the folder that holds the root by its name, also where the root is a link to
    another disk.

    Args:
        root: The data root.
        path: Relative to it, or absolute.
    """
    return os.path.normpath(os.path.join(root, path))


def load_json(path: str | Path, expect: type = dict) -> Any:
    """Read a JSON file.

    Args:
        path: The file.
        expect: Type of its top level.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is not JSON or its top level is of another type.
    """
    check_annotation_file(path)
    try:
        content = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is not valid JSON: {error}') from error
    if not isinstance(content, expect):
        raise ValueError(f'{path}: top level must be a {expect.__name__}, got a '
                         f'{type(content).__name__}')
    return content


class _PlainUnpickler(pickle.Unpickler):
    """Admits numbers, strings and plain containers; no class or function is ever looked up."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f'{module}.{name} is not plain data')


def load_plain_pickle(path: str | Path) -> Any:
    """Read a pickle that holds plain data only.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is no pickle or holds anything but plain data.
    """
    check_annotation_file(path)
    content = Path(path).read_bytes()
    try:
        # The REFER toolkit's files were written by Python 2.
        return _PlainUnpickler(io.BytesIO(content), encoding='latin1').load()
    except Exception as error:  # A malformed pickle raises nearly any type.
        raise ValueError(f'{path} is not a pickle of plain data: {error}') from error


def load_records(path: str | Path, faults: Faults) -> Iterator[tuple[str, int, Any]]:
    """Read records from a JSON list or from JSON lines (``.jsonl``).

    Args:
        path: The file.
        faults: Takes lines that are no JSON.

    Yields:
        How messages call the record, its number from 0 (from 1 for lines), and the record.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is no JSON list.
    """
    if Path(path).suffix != '.jsonl':
        for place, record in enumerate(load_json(path, list)):
            yield f'record number {place}', place, record
        return
    with open(path, 'rb') as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield f'line {number}', number, json.loads(line)
            except (ValueError, RecursionError) as error:
                faults('broken line', f'line {number}', f'is not valid JSON: {error}')
