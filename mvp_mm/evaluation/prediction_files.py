# Copyright (c) mvp_mm authors. All rights reserved.
"""Record files that several processes write and one joins."""
from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

_PARTS = '.parts'


class PartFiles:
    """One process's records, one JSON a line, in ``<folder>/.parts/``.

    Args:
        folder: Where the joined files will be.
        rank: Number of the process.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder = folder / _PARTS
        self.rank = rank
        self._open: dict[tuple[str, str], TextIO] = {}
        self._lines: Counter = Counter()

    def write(self, task: str, name: str, record: dict[str, Any]) -> None:
        """Append a record.

        Raises:
            ValueError: If it is no plain data or holds a number that is not finite.
        """
        try:
            line = json.dumps(record, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f'the prediction cannot be saved in {name}.json: {error}') from error
        self.start(task, name).write(line + '\n')
        self._lines[f'{task}/{name}'] += 1

    def start(self, task: str, name: str) -> TextIO:
        """Open a file, which stays empty where no record follows."""
        if (task, name) not in self._open:
            path = self.folder / task / f'{name}.{self.rank}.jsonl'
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open[task, name] = path.open('x', encoding='utf-8')
            self._lines[f'{task}/{name}'] = 0
        return self._open[task, name]

    def close(self) -> None:
        """Finish writing and note how many records there are."""
        for file in self._open.values():
            file.close()
        self._open.clear()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f'rank{self.rank}.json').write_text(json.dumps(self._lines))


def merge_parts(folder: Path, processes: int, categories: list[dict[str, Any]]) -> None:
    """Join the records of all processes and remove their parts.

    Args:
        folder: As for :class:`PartFiles`.
        processes: Number of processes.
        categories: COCO's records of the data set's classes.

    Raises:
        FileNotFoundError: If the parts of a process are not there.
        ValueError: If there are no records, fewer than were written, or a sample twice.
    """
    counts: dict[str, Counter] = defaultdict(Counter)
    for rank in range(processes):
        note = folder / _PARTS / f'rank{rank}.json'
        if not note.is_file():
            raise FileNotFoundError(f'{note} does not exist: process {rank} must write to a '
                                    'folder that all processes share')
        for name, lines in json.loads(note.read_text()).items():
            counts[name][rank] = lines
    if not counts:
        raise ValueError(f'{folder}: nothing was predicted')
    images: dict[str, list] = {}
    for name, lines in counts.items():
        task, _, kind = name.rpartition('/')
        (folder / task).mkdir(exist_ok=True)
        if kind == 'keys':
            _check_keys(folder, name, lines)
        elif kind == 'images':
            # Sentences about one image may have been met by several processes.
            records = map(json.loads, _lines(folder, name, lines))
            images[task] = list({record['id']: record for record in records}.values())
            _write(folder / f'{name}.json', map(json.dumps, images[task]), kind,
                   categories=categories)
    for name, lines in counts.items():
        task, _, kind = name.rpartition('/')
        if kind == 'panoptic':
            # COCO's panoptic format is a whole data set.
            _write(folder / f'{name}.json', _lines(folder, name, lines), 'annotations',
                   images=images[task], categories=categories)
        elif kind not in ('images', 'keys'):
            _write(folder / f'{name}.json', _lines(folder, name, lines))
    shutil.rmtree(folder / _PARTS)


def _check_keys(folder: Path, name: str, counts: Counter) -> None:
    seen = set()
    for line in _lines(folder, name, counts):
        if line in seen:
            raise ValueError(f'{folder}: {line} was predicted by two processes; the sampler must '
                             'not repeat images (round_up=False)')
        seen.add(line)


def _lines(folder: Path, name: str, counts: Counter) -> Iterator[str]:
    """The records that the processes have noted, as they were written."""
    for rank, count in sorted(counts.items()):
        path = folder / _PARTS / f'{name}.{rank}.jsonl'
        found = 0
        with path.open(encoding='utf-8') as file:
            for line in file:
                found += 1
                yield line.rstrip('\n')
        if found != count:
            raise ValueError(f'{path} has {found} of {count} records')


def _write(path: Path, lines: Iterable[str], key: str = '', **blocks: Any) -> None:
    """Write a JSON list, or a dict of blocks with the list under a key."""
    with path.open('x', encoding='utf-8') as file:
        if key:
            head = ''.join(f'"{name}": {json.dumps(block)},\n' for name, block in blocks.items())
            file.write(f'{{{head}"{key}": ')
        file.write('[')
        for number, line in enumerate(lines):
            file.write(f'{"," if number else ""}\n{line}')
        file.write('\n]}\n' if key else '\n]\n')
