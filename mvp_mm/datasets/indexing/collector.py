# Copyright (c) mvp_mm authors. All rights reserved.
"""Collection of a COCO-style file's records, in any order, into columns."""
from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mvp_mm.datasets.indexing.layout import CocoLayout
from mvp_mm.utils.faults import Faults
from mvp_mm.utils.texts import named, shown

# What tables hold in place of an annotation id that is no number: none, or a text, counted from
# the second on. No number that is an id reaches down to them.
NO_ID = -(1 << 63)
FIRST_TEXT = NO_ID + 1
_NOT_KNOWN = float('nan')


def annotation_id(number: int, texts: Sequence[str]) -> int | str | None:
    """The id for which a number stands in the tables, None where there is none.

    Args:
        number: An ``ident`` of the tables.
        texts: All texts that are ids.
    """
    if number == NO_ID:
        return None
    place = number - FIRST_TEXT
    return texts[place] if place < len(texts) else number


class Collector:
    """Takes records in any order; annotations may come before the images they name.

    Args:
        layout: What is taken.
        faults: Takes what is wrong; records at fault are left out.
    """

    def __init__(self, layout: CocoLayout, faults: Faults) -> None:
        self.layout, self.faults = layout, faults
        self.categories: list[dict] = []
        self.image_ids: list[int | str] = []
        self.heights, self.widths = array('q'), array('q')
        self.names: list[bytes] = []
        # Numbers given to ids in the order of their first mention.
        self.number_of: dict[int | str, int] = {}
        self.class_of: dict[Any, int] = {}
        self.owners, self.classes, self.idents = array('i'), array('i'), array('q')
        self.texts: dict[str, int] = {}
        self.boxes, self.crowd, self.areas = array('d'), array('b'), array('d')
        self.begins, self.lengths = array('q'), array('i')
        # Number of the image, place of its record.
        self.image_spans: dict[int | str, tuple[int, int]] = {}
        # Read once: they are asked for at every object.
        self._with_labels, self._with_areas = layout.with_labels, layout.with_areas
        self._object_records = layout.object_records
        # Takes a record of each list: its place in the list, the record (of any type), and where
        # its text begins and ends in the file.
        self.take: dict[str, Callable[[int, Any, int, int], None]] = dict(
            images=self._image, annotations=self._annotation, categories=self._category)

    def _category(self, place: int, record: Any, begin: int, end: int) -> None:
        if self.layout.category.accepts(record, self.faults, place):
            self.categories.append(record)

    def _image(self, place: int, record: Any, begin: int, end: int) -> None:
        if not self.layout.image.accepts(record, self.faults, place):
            return
        self.heights.append(record['height'])
        self.widths.append(record['width'])
        self.image_ids.append(record['id'])
        self.names.append(self.layout.file_name(record).encode())
        if self.layout.image_records == 'images':
            self.image_spans[record['id']] = (begin, end - begin)

    def _annotation(self, place: int, record: Any, begin: int, end: int) -> None:
        if not self.layout.annotation.accepts(record, self.faults, place):
            return
        image_id = record['image_id']
        if self.layout.segment is None:
            return self._object(record, image_id, begin, end)
        if image_id in self.image_spans:
            return self.faults('duplicate id', f'annotation of image {named(image_id)}',
                               'is there more than once')
        self.image_spans[image_id] = (begin, end - begin)
        within = f'image {named(image_id)}, '
        ids = []
        for number, segment in enumerate(record['segments_info']):
            if self.layout.segment.accepts(segment, self.faults, number, within=within):
                ids.append(segment['id'])
                self._object(segment, image_id, begin, end)
        if len(set(ids)) != len(ids):
            self.faults('duplicate id', f'image {named(image_id)}:',
                        f'segment ids must be different, got {shown(ids)}')

    def _object(self, record: dict, image_id: int | str, begin: int, end: int) -> None:
        self.boxes.extend(record['bbox'])
        ident = record.get('id', NO_ID)
        if type(ident) is str:
            ident = FIRST_TEXT + self.texts.setdefault(ident, len(self.texts))
        self.idents.append(ident)
        self.owners.append(self.number_of.setdefault(image_id, len(self.number_of)))
        self.crowd.append(record.get('iscrowd', 0))
        if self._with_labels:
            self.classes.append(self.class_of.setdefault(record['category_id'],
                                                         len(self.class_of)))
        if self._with_areas:
            self.areas.append(record.get('area', _NOT_KNOWN))
        if self._object_records:
            self.begins.append(begin)
            self.lengths.append(end - begin)

    def _positions(self, ids: Sequence, what: str) -> dict:
        """Where each id stands in the file's list; of images with one id the first counts."""
        position: dict = {}
        for index, ident in enumerate(ids):
            if position.setdefault(ident, index) != index:
                self.faults('duplicate id', f'{what} {named(ident)}', 'occurs twice')
        return position

    def _resolve(self, numbers: array, number_of: dict, position: dict, what: str) -> np.ndarray:
        """Positions in the file's list in place of numbers given by first mention.

        -1 where the list does not have the id.
        """
        table = np.array([position.get(ident, -1) for ident in number_of], dtype=np.int32)
        resolved = table[np.frombuffer(numbers, dtype=np.int32)] if len(numbers) else table[:0]
        unknown = np.flatnonzero(resolved < 0)
        if len(unknown):
            ids = list(number_of)
            kind = 'annotation' if self.layout.segment is None else 'segment'
            texts = list(self.texts)
            for row in unknown.tolist():
                ident = annotation_id(self.idents[row], texts)
                where = f'{kind} number {row}' if ident is None else f'{kind} {named(ident)}'
                self.faults(f'unknown {what}', where,
                            f'names unknown {what} {named(ids[numbers[row]])}')
        return resolved

    def resolved(self) -> tuple[dict, np.ndarray, np.ndarray]:
        """Resolve the ids, once every record was taken.

        Returns:
            The position of each image id, and of each object the (n,) positions of its image and
            of its category; -1 where the file does not have it.
        """
        places = self._positions(self.image_ids, 'image')
        owners = self._resolve(self.owners, self.number_of, places, 'image')
        labels = np.full(len(owners), -1, dtype=np.int32)
        if self.layout.with_labels:
            if not self.categories:
                self.faults('no category', 'the list of categories', 'is empty')
            classes = self._positions([c['id'] for c in self.categories], 'category')
            labels = self._resolve(self.classes, self.class_of, classes, 'category')
        self.number_of.clear()
        for ident in self.image_spans:
            if ident not in places:
                self.faults('unknown image', f'annotation of image {named(ident)}',
                            f'names unknown image {named(ident)}')
        return places, owners, labels
