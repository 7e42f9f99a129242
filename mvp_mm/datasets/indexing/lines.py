# Copyright (c) mvp_mm authors. All rights reserved.
"""JSON lines of any size: where each line stands, and what a reader notes about it."""
from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mvp_mm.datasets.indexing.box_faults import BAD_BOX, BadBoxes
from mvp_mm.datasets.indexing.store import FileRows, open_index, options_digest
from mvp_mm.utils.faults import Faults
from mvp_mm.utils.texts import named

# Of the tables; changes whenever they do.
_FORMAT = 1
# Files of up to so many bytes are not indexed on disk.
KEEP_IN_MEMORY = 32 << 20
_BLOCK = 1 << 16
_TABLES = dict(
    # The last row is a sentinel that holds the end offset.
    lines=np.dtype([('begin', '<i8'), ('length', '<i4'), ('number', '<i4'), ('name', '<i8')]),
    names=np.dtype(np.uint8),
    bad_boxes=BAD_BOX)


class LineNotes(NamedTuple):
    """What a reader notes about a line.

    Attributes:
        file_name: The image.
        bad_boxes: Reason (see ``BOX_FAULTS``) and box (4 numbers) of each that cannot be used.
        boxes: Number of all boxes.
    """

    file_name: str
    bad_boxes: list[tuple[int, list[float]]]
    boxes: int


class LineIndex:
    """Lines of a JSONL file, one per image, read where they are needed.

    Small files are kept in memory; where the table of a large one lies is told by
    :func:`~mvp_mm.datasets.indexing.store.index_folder`.

    Args:
        path: The file.
        name: Tells indices of one file apart, together with ``options``.
        version: Of what a reader notes; an index of another version is made anew.
        options: What the content depends on besides the file; each choice has its own index.
        note: Called with a line's name, its content and the faults, once, when the index is made;
            returns None for a line that is left out.
        summarize: Called after the last line; returns facts that are kept, as JSON can hold them.
        index_dir: Folder for indices.
        faults: Takes broken lines; by default they are an error.
        keep_in_memory: Takes the place of ``KEEP_IN_MEMORY``.

    Attributes:
        facts: ``boxes``, their number, and ``summary``.

    Raises:
        ValueError: If a line is no JSON object; names file and line.
    """

    def __init__(self, path: str, name: str, version: int, options: dict[str, Any],
                 note: Callable[[str, dict, Faults], LineNotes | None],
                 summarize: Callable[[], dict[str, Any]], index_dir: str | None = None,
                 faults: Faults | None = None, keep_in_memory: int | None = None) -> None:
        self.path = str(path)
        self._note, self._summarize = note, summarize
        faults = faults or Faults(path)
        if Path(path).stat().st_size <= (
                KEEP_IN_MEMORY if keep_in_memory is None else keep_in_memory):
            self._source = np.frombuffer(Path(path).read_bytes(), dtype=np.uint8)
            self._tables, self.facts = self._read(faults)
            return
        self._source = FileRows(path, np.uint8)
        try:
            folder, self.facts = open_index(
                path, f'{name}-{options_digest(options)}',
                dict(format=_FORMAT, version=version, options=options), self._write, index_dir)
            self._tables = {table: FileRows(folder / f'{table}.bin', dtype)
                            for table, dtype in _TABLES.items()}
        except ValueError:
            if not faults.collects:
                raise
            self._tables, self.facts = self._read(faults)

    def _write(self, folder: Path) -> dict[str, Any]:
        tables, facts = self._read(Faults(self.path))
        for table, rows in tables.items():
            rows.tofile(folder / f'{table}.bin')
        return facts

    def _read(self, faults: Faults) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        begins, lengths, numbers = array('q'), array('i'), array('i')
        names: list[bytes] = []
        bad: list[tuple] = []
        boxes = begin = 0
        with open(self.path, 'rb') as file:
            for number, line in enumerate(file, 1):
                notes = self._notes(number, line, faults)
                if notes is not None:
                    bad += [(number, len(names), reason, tuple(box))
                            for reason, box in notes.bad_boxes]
                    boxes += notes.boxes
                    begins.append(begin)
                    lengths.append(len(line))
                    numbers.append(number)
                    names.append(notes.file_name.encode())
                begin += len(line)
        lines = np.zeros(len(names) + 1, dtype=_TABLES['lines'])
        for column, values in (('begin', begins), ('length', lengths), ('number', numbers)):
            lines[column][:-1] = values
        lines['name'][1:] = np.cumsum([len(name) for name in names])
        tables = dict(lines=lines, names=np.frombuffer(b''.join(names), dtype=np.uint8),
                      bad_boxes=np.array(bad, dtype=BAD_BOX))
        return tables, dict(boxes=boxes, summary=self._summarize())

    def _notes(self, number: int, line: bytes, faults: Faults) -> LineNotes | None:
        if not line.strip():
            return None
        where = f'line {number}'
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            faults('broken line', where, f'is not valid JSON: {error}')
            return None
        return self._note(where, content, faults)

    def __len__(self) -> int:
        return len(self._tables['lines']) - 1

    def image_ids(self) -> np.ndarray:
        """Numbers of the lines, counted from 1, (n,) int64."""
        rows = self._tables['lines'][0:len(self)]
        return rows['number'].astype(np.int64)

    def file_names(self) -> Iterator[str]:
        """File names of all images, in order."""
        for start in range(0, len(self), _BLOCK):
            rows = self._tables['lines'][start:min(start + _BLOCK, len(self)) + 1]['name']
            text = self._tables['names'][rows[0]:rows[-1]].tobytes()
            ends = (rows - rows[0]).tolist()
            for first, last in zip(ends[:-1], ends[1:], strict=True):
                yield text[first:last].decode()

    def file_name(self, row: int) -> str:
        """File name of an image."""
        here, after = self._tables['lines'][row:row + 2]['name'].tolist()
        return self._tables['names'][here:after].tobytes().decode()

    def content(self, row: int) -> tuple[int, dict[str, Any]]:
        """Number and content of a line.

        Raises:
            ValueError: If the file has changed.
        """
        begin, length, number, _ = self._tables['lines'][row:row + 1][0].tolist()
        try:
            return number, json.loads(self._source[begin:begin + length].tobytes())
        except (ValueError, RecursionError) as error:
            raise ValueError(f'{self.path} changed since it was opened: {error}') from error

    @property
    def bad_boxes(self) -> BadBoxes:
        """Boxes that cannot be used."""
        return BadBoxes(self.facts['boxes'], self._tables['bad_boxes'], self._name_of)

    def _name_of(self, bad: np.void) -> str:
        return f'line {bad["ident"]} ({named(self.file_name(int(bad["image"])))})'

    def report_to(self, faults: Faults) -> None:
        """Report statistics to a check; training ignores them."""
        faults.count('lines', len(self))
        faults.count('boxes', self.facts['boxes'])

    def __getstate__(self) -> dict[str, Any]:
        """What made the index stays behind: it may not be possible to send it elsewhere."""
        return dict(self.__dict__, _note=None, _summarize=None)
