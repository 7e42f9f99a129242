# Copyright (c) mvp_mm authors. All rights reserved.
"""What is done about faults of an annotation file: readers raise, checks write them down."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Faults:
    """Raises at the first fault, as a reader must.

    A check gives readers a subclass that writes faults down and goes on, so that both parse a
    file by the same code. After a call that returns, the record at fault is to be left out.

    Args:
        path: The file.
    """

    # Whether faults are written down: calls return then.
    collects = False

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)

    def __call__(self, kind: str, where: str, message: str) -> None:
        """A record that cannot be used.

        Args:
            kind: Short name that faults of a kind share, such as ``'unknown category'``.
            where: The record: its kind and id.
            message: What is wrong, to be read after ``where``.

        Raises:
            ValueError: Always, naming the file and the record.
        """
        raise ValueError(f'{self.path}: {where} {message}')

    def minor(self, kind: str, where: str, message: str) -> None:
        """A fault with which a reader can live; only checks tell it."""

    def note(self, what: str, number: int = 1) -> None:
        """Something unusual but harmless; only checks tell it."""

    def count(self, what: str, number: int = 1) -> None:
        """Something that was looked at; only checks tell it."""

    def complete(self, record: Any, keys: Sequence[str], what: str) -> bool:
        """Whether a record is an object with some keys; a fault if not."""
        if not isinstance(record, dict):
            self('broken record', what, f'must be an object, got {type(record).__name__}')
            return False
        missing = [key for key in keys if key not in record]
        if missing:
            identity = record.get('id', record.get('ref_id', record.get('image_id')))
            where = what if identity is None else f'{what} {identity}'
            self('missing key', where, f'lacks {", ".join(missing)}')
        return not missing

    def classes(self, names: Sequence[Any]) -> None:
        """Faults for class names that are empty or come again."""
        if not all(isinstance(name, str) and name.strip() for name in names):
            self('empty class name', 'empty class names', f'in {list(names)}')
        repeated = sorted(str(name) for name, count in Counter(names).items() if count > 1)
        if repeated:
            self('repeated class name', 'repeated class names', str(repeated))

    def repeated(self, values: Sequence[Any], what: str) -> None:
        """A minor fault for every value that comes again."""
        if not self.collects:
            return
        seen: set[Any] = set()
        for value in values:
            if value in seen:
                self.minor('duplicate id', f'{what} {value}', 'is there more than once')
            seen.add(value)


class ToldBefore(Faults):
    """Passes over faults: those of a record that was looked at when its index was made."""

    def __call__(self, kind: str, where: str, message: str) -> None:
        """Nothing is done."""
