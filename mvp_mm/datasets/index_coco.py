# Copyright (c) mvp_mm authors. All rights reserved.
"""COCO-style JSON of any size as tables, grouped by image."""
from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mvp_mm.datasets.index_build import IMAGE, build_tables, object_type
from mvp_mm.datasets.index_store import FileRows, open_index

Record = dict[str, Any]
_KEEP_IN_MEMORY = 32 << 20
_BLOCK = 1 << 16


class CocoIndex:
    """Images, their usable boxes and, where asked for, the annotations' full records.

    Small files are read into memory. A large one is indexed on disk the first time (see
    :func:`~mvp_mm.datasets.index_store.index_folder` for where) and then costs no memory: rows
    and records are read where they are needed. Boxes that :func:`box_faults` finds unusable are
    not in the tables; ``faults`` tells how many and which.

    Args:
        path: The JSON file.
        annotation_keys: Keys that every annotation must have; without ``category_id`` labels
            are -1.
        with_records: Whether :meth:`records` is needed.
        index_dir: Folder for indices.
        keep_in_memory: Files of up to so many bytes are not indexed on disk.

    Attributes:
        categories: The file's categories; labels are positions in this list.
        faults: ``total`` annotations, ``counts`` of unusable boxes by reason, ``examples``.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If a record is broken; names the file and the record.
    """

    def __init__(self,
                 path: str,
                 annotation_keys: Sequence[str] = ('image_id', 'category_id', 'bbox'),
                 with_records: bool = False,
                 index_dir: str | None = None,
                 keep_in_memory: int = _KEEP_IN_MEMORY) -> None:
        self.path = str(path)
        self.with_records = with_records
        if not Path(path).is_file():
            raise FileNotFoundError(f'Annotation file {path} does not exist')
        keys = tuple(annotation_keys)
        if Path(path).stat().st_size <= keep_in_memory:
            tables, facts = build_tables(self.path, keys, with_records)
            self._images, self._names, self._objects = tables
            self._source = np.frombuffer(
                Path(path).read_bytes() if with_records else b'', dtype=np.uint8)
        else:
            def build(folder: Path) -> dict[str, Any]:
                return build_tables(self.path, keys, with_records, folder)[1]

            folder, facts = open_index(
                path, 'records' if with_records else 'boxes', dict(keys=keys), build, index_dir)
            self._images = FileRows(folder / 'images.bin', IMAGE)
            self._names = FileRows(folder / 'names.bin', np.uint8)
            self._objects = FileRows(folder / 'objects.bin', object_type(with_records))
            self._source = FileRows(path, np.uint8)
        self.categories: list[Record] = facts['categories']
        self.faults: dict[str, Any] = facts['faults']

    def __len__(self) -> int:
        # The last row only tells where the tables end.
        return len(self._images) - 1

    def image_ids(self) -> np.ndarray:
        """Ids of all images, (n,) int64."""
        blocks = [self._images[start:start + _BLOCK]['id']
                  for start in range(0, len(self._images), _BLOCK)]
        return np.concatenate(blocks)[:-1]

    def file_names(self) -> Iterator[str]:
        """File names of all images, in order."""
        for start in range(0, len(self), _BLOCK):
            rows = self._images[start:min(start + _BLOCK, len(self)) + 1]['name']
            text = self._names[rows[0]:rows[-1]].tobytes()
            ends = (rows - rows[0]).tolist()
            for first, last in zip(ends[:-1], ends[1:], strict=True):
                yield text[first:last].decode()

    def image(self, row: int) -> tuple[Record, np.ndarray]:
        """An image and its objects.

        Args:
            row: Position in the file's list of images.

        Returns:
            ``id``, ``file_name``, ``height`` and ``width``; and the (n,) rows of its objects,
            with the fields ``box`` (4,) float32 xyxy, ``label`` and ``crowd``.
        """
        here, after = self._images[row:row + 2].tolist()
        ident, height, width, name, first = here
        image = dict(
            id=ident, height=height, width=width,
            file_name=self._names[name:after[3]].tobytes().decode())
        return image, self._objects[first:after[4]]

    def records(self, objects: np.ndarray) -> list[Record]:
        """The full records of objects that :meth:`image` returned, read from the JSON file.

        Raises:
            ValueError: If the file has changed.
        """
        spans = zip(objects['begin'].tolist(), objects['length'].tolist(), strict=True)
        try:
            return [json.loads(self._source[begin:begin + length].tobytes())
                    for begin, length in spans]
        except ValueError as error:
            raise ValueError(f'{self.path} changed since it was opened: {error}') from error
