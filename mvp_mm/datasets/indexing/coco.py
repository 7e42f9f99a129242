# Copyright (c) mvp_mm authors. All rights reserved.
"""COCO-style JSON of any size as tables, grouped by image."""
from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from mvp_mm.datasets.indexing.box_faults import BAD_BOX, BadBoxes
from mvp_mm.datasets.indexing.build import IMAGE, object_type, read_tables
from mvp_mm.datasets.indexing.collector import FIRST_TEXT, annotation_id
from mvp_mm.datasets.indexing.layout import CocoLayout, Record
from mvp_mm.datasets.indexing.store import FileRows, open_index
from mvp_mm.utils.faults import Faults
from mvp_mm.utils.files import check_annotation_file
from mvp_mm.utils.texts import named

# Of the tables; changes whenever they do.
_FORMAT = 3
# Files of up to so many bytes are not indexed on disk.
KEEP_IN_MEMORY = 32 << 20
_BLOCK = 1 << 16


class CocoIndex:
    """Images, their usable boxes and, where the layout asks for them, full records.

    Small files are read into memory. A large one is indexed on disk the first time (see
    :func:`~mvp_mm.datasets.indexing.store.index_folder` for where) and then costs no memory: rows
    and records are read where they are needed. Boxes that :func:`box_faults` finds unusable are
    not in the table of objects, they are in ``bad_boxes``.

    Args:
        path: The JSON file.
        layout: What is taken from it.
        index_dir: Folder for indices.
        faults: Takes broken records; by default they are an error.
        keep_in_memory: Takes the place of ``KEEP_IN_MEMORY``.

    Attributes:
        categories: The file's categories; labels are positions in this list.
        facts: ``objects``, the number of boxes; ``sticking_out``, of those that leave their image
            by more than a pixel; ``texts``, the annotation ids that are texts; ``repeated``, the
            first of the ``number_repeated`` idents that come again;
            ``summary``, what the layout's :meth:`~CocoLayout.summarize` gave.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If a record is broken; names the file and the record.
    """

    def __init__(self,
                 path: str,
                 layout: CocoLayout | None = None,
                 index_dir: str | None = None,
                 faults: Faults | None = None,
                 keep_in_memory: int | None = None) -> None:
        self.path = str(path)
        self.layout = layout or CocoLayout()
        faults = faults or Faults(path)
        check_annotation_file(path)
        if Path(path).stat().st_size <= (
                KEEP_IN_MEMORY if keep_in_memory is None else keep_in_memory):
            self._source = np.frombuffer(Path(path).read_bytes(), dtype=np.uint8)
            self.facts = self._read(faults)
        else:
            self._source = FileRows(path, np.uint8)
            self.facts = self._open(index_dir, faults)
        self.categories = self.facts['categories']

    def _read(self, faults: Faults) -> Record:
        """Read the file into memory."""
        tables = read_tables(self.path, self.layout, faults)
        self._images, self._names = tables.images, tables.names()
        empty = np.zeros(0, dtype=object_type(self.layout))
        self._objects = np.concatenate([empty, *map(tables.objects, tables.blocks())])
        self._bad = tables.bad
        return self._summarized(tables.facts(), faults)

    def _summarized(self, facts: Record, faults: Faults) -> Record:
        self.categories: list[Record] = facts['categories']
        return dict(facts, summary=self.layout.summarize(self, faults))

    def _open(self, index_dir: str | None, faults: Faults) -> Record:
        """Open the tables on disk, which are made if they are not there."""
        def build(folder: Path) -> Record:
            strict = Faults(self.path)
            tables = read_tables(self.path, self.layout, strict)
            tables.write(folder)
            facts = tables.facts()
            del tables
            self._map(folder)
            return self._summarized(facts, strict)

        options = dict(format=_FORMAT, layout=self.layout.options)
        try:
            folder, facts = open_index(self.path, self.layout.name, options, build, index_dir)
        except ValueError:
            if not faults.collects:
                raise
            return self._read(faults)
        self._map(folder)
        return facts

    def _map(self, folder: Path) -> None:
        self._images = FileRows(folder / 'images.bin', IMAGE)
        self._names = FileRows(folder / 'names.bin', np.uint8)
        self._objects = FileRows(folder / 'objects.bin', object_type(self.layout))
        self._bad = FileRows(folder / 'bad_boxes.bin', BAD_BOX)

    def __len__(self) -> int:
        # The last row is a sentinel that holds the end offsets.
        return len(self._images) - 1

    def _blocks(self) -> Iterator[np.ndarray]:
        """Rows of images, each block followed by the row after it."""
        for start in range(0, len(self), _BLOCK):
            yield self._images[start:min(start + _BLOCK, len(self)) + 1]

    def _column(self, name: str) -> np.ndarray:
        blocks = [block[name][:-1] for block in self._blocks()]
        return np.concatenate([np.zeros(0, dtype=IMAGE[name]), *blocks])

    def image_ids(self) -> np.ndarray:
        """Ids of all images, (n,) int64, -1 where an id is a text."""
        return self._column('id')

    def with_record(self) -> np.ndarray:
        """Whether an image has a record of its own, (n,) bool."""
        return self._column('length') > 0

    def file_names(self) -> Iterator[str]:
        """File names of all images, in order."""
        for block in self._blocks():
            rows = block['name']
            text = self._names[rows[0]:rows[-1]].tobytes()
            ends = (rows - rows[0]).tolist()
            for first, last in zip(ends[:-1], ends[1:], strict=True):
                yield text[first:last].decode()

    def file_name(self, row: int) -> str:
        """File name of an image."""
        here, after = self._images[row:row + 2]['name'].tolist()
        return self._names[here:after].tobytes().decode()

    def image(self, row: int) -> tuple[Record, np.ndarray]:
        """An image and its objects.

        Args:
            row: Position in the file's list of images.

        Returns:
            ``id``, ``file_name``, ``height`` and ``width``; and the (n,) rows of its objects,
            with the fields ``box`` (4,) float32 xyxy, ``label``, ``crowd``, and ``ident`` and
            ``area`` where the layout has them; an area that the file does not give is NaN.
        """
        here, after = self._images[row:row + 2].tolist()
        ident, height, width, name, first = here[:5]
        image = dict(
            id=ident, height=height, width=width,
            file_name=self._names[name:after[3]].tobytes().decode())
        return image, self._objects[first:after[4]]

    def image_record(self, row: int) -> Record:
        """The image's own record, read from the JSON file.

        Raises:
            ValueError: If the file has changed.
        """
        image, = self._images[row:row + 1]
        return self._decode(int(image['begin']), int(image['length']))

    def records(self, objects: np.ndarray) -> list[Record]:
        """The full records of objects that :meth:`image` returned, read from the JSON file.

        Raises:
            ValueError: If the file has changed.
        """
        spans = zip(objects['begin'].tolist(), objects['length'].tolist(), strict=True)
        return [self._decode(begin, length) for begin, length in spans]

    def annotation_ids(self, idents: np.ndarray) -> list[int | str | None]:
        """The annotation ids for which a column ``ident`` stands; None where there is none."""
        texts = self.facts['texts']
        return [annotation_id(number, texts) for number in idents.tolist()]

    def idents_of(self, annotation_ids: Iterable[int | str]) -> list[int]:
        """What a column ``ident`` holds for annotation ids; unknown texts are left out."""
        place = {text: FIRST_TEXT + k for k, text in enumerate(self.facts['texts'])}
        numbers = (place.get(a) if isinstance(a, str) else a for a in annotation_ids)
        return [number for number in numbers if number is not None]

    def _decode(self, begin: int, length: int) -> Record:
        try:
            return json.loads(self._source[begin:begin + length].tobytes())
        except ValueError as error:
            raise ValueError(f'{self.path} changed since it was opened: {error}') from error

    @property
    def bad_boxes(self) -> BadBoxes:
        """Boxes that cannot be used."""
        return BadBoxes(self.facts['objects'], self._bad, self._name_of)

    def _name_of(self, bad: np.void) -> str:
        row = int(bad['image'])
        ident = int(self._images[row:row + 1]['id'][0])
        if self.layout.segment is not None:
            image = ident if ident >= 0 else named(self.image_record(row)['image_id'])
            return f'image {image}, segment {bad["ident"]}'
        number = annotation_id(int(bad['ident']), self.facts['texts'])
        return f'annotation {"without id" if number is None else named(number)} of image {ident}'

    def report_to(self, faults: Faults) -> None:
        """Report statistics to a check; training ignores them."""
        if not faults.collects:
            return
        faults.count('images', len(self))
        faults.count('annotations' if self.layout.segment is None else 'segments',
                     self.facts['objects'])
        faults.count('categories', len(self.categories))
        for number in self.facts['repeated']:
            ident = annotation_id(number, self.facts['texts'])
            faults.warn('duplicate id', f'annotation {named(ident)}', 'is there more than once')
        more = self.facts['number_repeated'] - len(self.facts['repeated'])
        if more:
            faults.warn('duplicate id', f'{more} more annotations', 'are there more than once')
        faults.note('boxes that stick out of their image by more than a pixel',
                    self.facts['sticking_out'])
