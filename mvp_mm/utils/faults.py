# Copyright (c) mvp_mm authors. All rights reserved.
"""Reporting of faults in annotation files: readers raise the first, checks record all."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mvp_mm.utils.texts import are_plain, clean, is_text, named, same_look, shown


class Faults:
    """Raises at the first fault, as a reader must.

    A check gives readers a subclass that records faults and goes on, so that both parse a file by
    the same code. After a call that returns, the record at fault is to be left out.

    Args:
        path: The file.
    """

    # Whether faults are recorded: calls return then.
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

    def warn(self, kind: str, where: str, message: str) -> None:
        """A fault that checks record and readers ignore."""

    def note(self, what: str, number: int = 1) -> None:
        """Something unusual but harmless; only checks tell it."""

    def count(self, what: str, number: int = 1) -> None:
        """Something that was looked at; only checks tell it."""

    def classes(self, names: Sequence[Any]) -> list[str]:
        """Normalise class names as those of a caller are; a fault if any is none or repeated.

        Args:
            names: Class names, of any type.

        Returns:
            The names without outer spaces and with single ones; where faults are collected, also
            those that are at fault.
        """
        plain = set(map(type, names)) <= {str} and are_plain(names)
        if plain and len(set(names)) == len(names):
            return list(names)
        if not all(map(is_text, names)):
            self('empty class name', 'empty class names', f'or names that are no text, in '
                 f'{shown([name for name in names if not is_text(name)])}')
        cleaned = [clean(name) if isinstance(name, str) else shown(name) for name in names]
        looks = list(map(same_look, cleaned))
        if len(set(looks)) < len(looks):
            counts = Counter(looks)
            repeated = {name for name, look in zip(cleaned, looks, strict=True) if counts[look] > 1}
            self('repeated class name', 'repeated class names', shown(sorted(repeated)))
        return cleaned

    def repeated(self, values: Sequence[Any], what: str) -> None:
        """Warn of every value that comes again."""
        if not self.collects:
            return
        seen: set[Any] = set()
        for value in values:
            if value in seen:
                self.warn('duplicate id', f'{what} {named(value)}', 'is there more than once')
            seen.add(value)


class SilentFaults(Faults):
    """Ignores faults: those of a record that was looked at when its index was made."""

    def __call__(self, kind: str, where: str, message: str) -> None:
        """Nothing is done."""
