# Copyright (c) mvp_mm authors. All rights reserved.
"""Lists of names in text files, and files of a folder by their names without a suffix."""
from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from mvp_mm.utils.records import is_file_name
from mvp_mm.utils.texts import shown


def read_names(path: str | Path) -> list[str]:
    """Read a text list of one name per line.

    A line is a name with all its spaces; blank lines are left out. A byte order mark and Windows
    line ends are no part of a name.

    Raises:
        ValueError: If the file is not UTF-8, or a line cannot be the name of a file.
    """
    try:
        text = Path(path).read_bytes().decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} is not UTF-8: {error}') from error
    names = []
    for number, line in enumerate(text.split('\n'), 1):
        name = line.removesuffix('\r')
        if not name.strip():
            continue
        if not is_file_name(name):
            raise ValueError(f'{path}: line {number} is no name of a file: {shown(name)}')
        names.append(name)
    return names


class SuffixListing:
    """Files below a folder that end with a suffix, in letters of any case.

    Each subfolder is read once. Hidden files, whose names begin with a dot, do not count: some
    systems leave one beside every file that they copy.

    Args:
        folder: The folder.
        suffix: End of the files' names, such as ``.jpg`` or ``_leftImg8bit.png``.
    """

    def __init__(self, folder: str | Path, suffix: str) -> None:
        self.folder, self.suffix = Path(folder), suffix
        self._of: dict[str, dict[str, str]] = {}

    def find(self, name: str) -> str:
        """The file of a name, relative to the folder; as the suffix says where there is none.

        Raises:
            ValueError: If several files have this name.
        """
        parent, stem = os.path.split(name)
        if parent not in self._of:
            where = self.folder / parent
            files = sorted(os.listdir(where)) if where.is_dir() else []
            self._of[parent] = self._by_stem(where, filter(self._matches, files))
        return os.path.join(parent, self._of[parent].get(stem, stem + self.suffix))

    def all(self) -> tuple[dict[str, str], Counter[str]]:
        """Every file below the folder.

        Returns:
            Names without the suffix to files, both relative to the folder and in order; and the
            numbers of files passed over, by why.

        Raises:
            ValueError: If several files have one name.
        """
        found: dict[str, str] = {}
        passed: Counter[str] = Counter()
        for where, folders, files in os.walk(self.folder):
            folders[:] = sorted(name for name in folders if not name.startswith('.'))
            parent = os.path.relpath(where, self.folder)
            parent = '' if parent == '.' else parent
            passed['hidden'] += sum(name.startswith('.') for name in files)
            matching = sorted(filter(self._matches, files))
            passed[f'without the suffix {self.suffix}'] += sum(
                not name.startswith('.') for name in files) - len(matching)
            for stem, name in self._by_stem(Path(where), matching).items():
                found[os.path.join(parent, stem)] = os.path.join(parent, name)
        return dict(sorted(found.items())), +passed

    def _matches(self, name: str) -> bool:
        return not name.startswith('.') and name.lower().endswith(self.suffix.lower())

    def _by_stem(self, where: Path, names: filter | list[str]) -> dict[str, str]:
        by_stem: dict[str, str] = {}
        for name in names:
            stem = name[:len(name) - len(self.suffix)]
            if stem in by_stem:
                raise ValueError(f'{where}: {by_stem[stem]} and {name} have the same name but for '
                                 'their suffixes, so their answers would too')
            by_stem[stem] = name
        return by_stem
