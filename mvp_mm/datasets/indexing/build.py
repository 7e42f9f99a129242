# Copyright (c) mvp_mm authors. All rights reserved.
"""From COCO-style JSON to tables grouped by image, in one pass and bounded memory."""
from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mvp_mm.datasets.indexing.box_faults import BAD_BOX, box_faults
from mvp_mm.datasets.indexing.json_stream import JsonStream
from mvp_mm.datasets.indexing.layout import CocoLayout
from mvp_mm.utils.faults import Faults

# `name` and `first`: where the image's file name and its objects begin in their tables; `begin`
# and `length`: where its own record stands in the JSON file.
IMAGE = np.dtype([('id', '<i8'), ('height', '<i4'), ('width', '<i4'), ('name', '<i8'),
                  ('first', '<i8'), ('begin', '<i8'), ('length', '<i4')])
_BLOCK = 1 << 20
_BORDER = 1.0
_REPEATED = 1000


def object_type(layout: CocoLayout) -> np.dtype:
    """Type of an object's row; ``begin`` and ``length`` locate its record in the JSON file."""
    fields = [('box', '<f4', 4), ('label', '<i4'), ('crowd', '?')]
    if layout.with_idents:
        fields += [('ident', '<i8')]
    if layout.object_records:
        fields += [('begin', '<i8'), ('length', '<i4')]
    return np.dtype(fields)


class Collector:
    """Takes records in any order; annotations may come before the images they name.

    Args:
        layout: What is taken.
        faults: Takes what is wrong; records at fault are left out.
    """

    def __init__(self, layout: CocoLayout, faults: Faults) -> None:
        self.layout, self.faults = layout, faults
        self.id_types = (int, str) if layout.segmented else (int,)
        self.categories: list[dict] = []
        self.image_ids: list[int | str] = []
        self.heights, self.widths = array('q'), array('q')
        self.names: list[bytes] = []
        # Numbers given to ids in the order of their first mention.
        self.number_of: dict[int | str, int] = {}
        self.class_of: dict[Any, int] = {}
        self.owners, self.classes, self.idents = array('i'), array('i'), array('q')
        self.boxes, self.crowd = array('d'), array('b')
        self.begins, self.lengths = array('q'), array('i')
        # Number of the image, place of its record.
        self.image_spans: dict[int | str, tuple[int, int]] = {}

    def category(self, record: dict) -> None:
        if not self.faults.complete(record, self.layout.category_keys, 'category'):
            return
        if not isinstance(record['id'], (int, str)):
            return self.faults('broken record', f'category id {record["id"]!r}',
                               'must be a number or a string')
        self.categories.append(record)

    def image(self, record: dict, begin: int, end: int) -> None:
        if not self.faults.complete(record, self.layout.image_keys, 'image'):
            return
        ident, name = record['id'], self.layout.file_name(record)
        if type(ident) not in self.id_types:
            return self.faults('broken record', f'image id {ident!r}', 'must be a whole number')
        if not isinstance(name, str) or not name:
            return self.faults('broken record', f'image {ident}', f'has file_name {name!r}')
        for side in ('height', 'width'):
            length = record[side]
            if type(length) is not int or length < 1:
                return self.faults('broken record', f'image {ident}', f'has {side} {length!r}')
        self.heights.append(record['height'])
        self.widths.append(record['width'])
        self.image_ids.append(ident)
        self.names.append(name.encode())
        if self.layout.image_records == 'images':
            self.image_spans[ident] = (begin, end - begin)

    def annotation(self, record: dict, begin: int, end: int) -> None:
        if not self.faults.complete(record, self.layout.annotation_keys, 'annotation'):
            return
        image_id = record['image_id']
        if type(image_id) not in self.id_types:
            return self.faults('broken record', f'annotation {record.get("id", "?")}',
                               f'has image_id {image_id!r}')
        if not self.layout.segmented:
            return self._object(record, image_id, 'annotation', begin, end)
        if image_id in self.image_spans:
            return self.faults('duplicate id', f'annotation of image {image_id}',
                               'is there more than once')
        if type(record['segments_info']) is not list:
            return self.faults('broken record', f'annotation of image {image_id}',
                               'has no list of segments_info')
        self.image_spans[image_id] = (begin, end - begin)
        ids = []
        for segment in record['segments_info']:
            what = f'image {image_id}, segment'
            if self.faults.complete(segment, ('id', 'category_id', 'bbox'), what):
                ids.append(segment['id'])
                self._object(segment, image_id, what, begin, end)
        if any(type(i) is not int or i <= 0 for i in ids) or len(set(ids)) != len(ids):
            self.faults('duplicate id', f'image {image_id}:',
                        f'segment ids must be positive and different, got {ids}')

    def _object(self, record: dict, image_id: int | str, what: str, begin: int, end: int) -> None:
        box, ident = record['bbox'], record.get('id', -1)
        before = len(self.boxes)
        try:
            if type(box) is not list or len(box) != 4:
                raise TypeError
            self.boxes.extend(box)
        except TypeError:
            del self.boxes[before:]
            return self.faults('broken box', f'{what} {ident}',
                               f'has bbox {box}, expected [x, y, w, h]')
        self.idents.append(ident if type(ident) is int else -1)
        self.owners.append(self.number_of.setdefault(image_id, len(self.number_of)))
        self.crowd.append(bool(record.get('iscrowd', 0)))
        if self.layout.with_labels:
            class_id = record['category_id']
            if type(class_id) is list or type(class_id) is dict:
                class_id = str(class_id)
            self.classes.append(self.class_of.setdefault(class_id, len(self.class_of)))
        if self.layout.object_records:
            self.begins.append(begin)
            self.lengths.append(end - begin)

    def _positions(self, ids: Sequence, what: str) -> dict:
        """Where each id stands in the file's list; of images with one id the first counts."""
        position: dict = {}
        for index, ident in enumerate(ids):
            if position.setdefault(ident, index) != index:
                self.faults('duplicate id', f'{what} {ident}', 'occurs twice')
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
            kind = 'segment' if self.layout.segmented else 'annotation'
            for row in unknown.tolist():
                self.faults(f'unknown {what}', f'{kind} {self.idents[row]}',
                            f'names unknown {what} {ids[numbers[row]]}')
        return resolved

    def tables(self) -> Tables:
        """Everything in tables."""
        places = self._positions(self.image_ids, 'image')
        owners = self._resolve(self.owners, self.number_of, places, 'image')
        labels = np.full(len(owners), -1, dtype=np.int32)
        if self.layout.with_labels:
            classes = self._positions([c['id'] for c in self.categories], 'category')
            labels = self._resolve(self.classes, self.class_of, classes, 'category')
        self.number_of.clear()
        number = len(self.image_ids)
        images = np.zeros(number + 1, dtype=IMAGE)
        images['id'][:-1] = [i if type(i) is int else -1 for i in self.image_ids]
        images['height'][:-1] = self.heights
        images['width'][:-1] = self.widths
        images['name'][1:] = np.cumsum([len(name) for name in self.names])
        for ident, (begin, length) in self.image_spans.items():
            if ident in places:
                images['begin'][places[ident]], images['length'][places[ident]] = begin, length
            else:
                self.faults('unknown image', f'annotation of image {ident}',
                            f'names unknown image {ident}')
        return Tables(self, images, owners, labels)


class Tables:
    """Images, names of their files, and usable objects in the order of their images."""

    def __init__(self, source: Collector, images: np.ndarray, owners: np.ndarray,
                 labels: np.ndarray) -> None:
        self.source, self.images, self.labels = source, images, labels
        self.boxes = np.array(source.boxes, copy=False).reshape(-1, 4)
        heights, widths = images['height'][:-1], images['width'][:-1]
        known = owners >= 0
        if source.layout.with_labels:
            known &= labels >= 0
        reasons = np.zeros(len(owners), dtype=np.int8)
        self.sticking_out = 0
        for start in range(0, len(owners), _BLOCK):
            block = slice(start, start + _BLOCK)
            inside = np.flatnonzero(known[block]) + start
            owner = owners[inside]
            reasons[inside] = box_faults(self.boxes[inside], heights[owner], widths[owner])
            self.sticking_out += int(self._stick_out(inside, heights[owner], widths[owner]).sum())
        usable = np.flatnonzero(known & (reasons == 0))
        self.order = usable[np.argsort(owners[usable], kind='stable')]
        images['first'][1:] = np.cumsum(np.bincount(
            owners[self.order], minlength=len(images) - 1))
        self.bad = self._bad(reasons, owners)

    def _stick_out(self, rows: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
        x, y, w, h = self.boxes[rows].T
        return ((np.minimum(x, y) < -_BORDER) | (x + w > widths + _BORDER)
                | (y + h > heights + _BORDER))

    def _bad(self, reasons: np.ndarray, owners: np.ndarray) -> np.ndarray:
        chosen = np.flatnonzero(reasons)
        rows = np.zeros(len(chosen), dtype=BAD_BOX)
        rows['ident'] = np.frombuffer(self.source.idents, dtype=np.int64)[chosen] if len(
            chosen) else 0
        rows['image'], rows['reason'] = owners[chosen], reasons[chosen]
        rows['box'] = self.boxes[chosen]
        return rows

    def facts(self) -> dict[str, Any]:
        """What is kept with the tables besides them."""
        source = self.source
        repeated = np.zeros(0, dtype=np.int64)
        if not source.layout.segmented and len(source.idents):
            idents = np.sort(np.frombuffer(source.idents, dtype=np.int64))
            repeated = np.unique(idents[1:][(idents[1:] == idents[:-1]) & (idents[1:] >= 0)])
        return dict(
            categories=source.categories, objects=len(source.idents),
            sticking_out=self.sticking_out, repeated=repeated[:_REPEATED].tolist(),
            number_repeated=len(repeated))

    def names(self) -> np.ndarray:
        """The bytes of all names."""
        return np.frombuffer(b''.join(self.source.names), dtype=np.uint8)

    def blocks(self) -> range:
        """Where blocks of objects begin."""
        return range(0, len(self.order), _BLOCK)

    def objects(self, start: int) -> np.ndarray:
        """A block of the table of objects."""
        source, chosen = self.source, self.order[start:start + _BLOCK]
        rows = np.zeros(len(chosen), dtype=object_type(source.layout))
        box = self.boxes[chosen].astype(np.float32)
        box[:, 2:] += box[:, :2]
        rows['box'], rows['label'] = box, self.labels[chosen]
        rows['crowd'] = np.frombuffer(source.crowd, dtype=np.int8)[chosen]
        if source.layout.with_idents:
            rows['ident'] = np.frombuffer(source.idents, dtype=np.int64)[chosen]
        if source.layout.object_records:
            rows['begin'] = np.frombuffer(source.begins, dtype=np.int64)[chosen]
            rows['length'] = np.frombuffer(source.lengths, dtype=np.int32)[chosen]
        return rows

    def write(self, folder: Path) -> None:
        """Write the tables into a folder."""
        self.images.tofile(folder / 'images.bin')
        self.names().tofile(folder / 'names.bin')
        self.bad.tofile(folder / 'bad_boxes.bin')
        with (folder / 'objects.bin').open('wb') as file:
            for start in self.blocks():
                self.objects(start).tofile(file)


def read_tables(path: str, layout: CocoLayout, faults: Faults) -> Tables:
    """Read a file into tables.

    Args:
        path: The JSON file.
        layout: What is taken from it.
        faults: Takes broken records.

    Raises:
        ValueError: If the file is no JSON object with the three lists; where ``faults`` raises.
    """
    collector = Collector(layout, faults)
    for key, record, begin, end in JsonStream(path).records(('images', 'annotations',
                                                             'categories')):
        if key == 'annotations':
            collector.annotation(record, begin, end)
        elif key == 'images':
            collector.image(record, begin, end)
        else:
            collector.category(record)
    return collector.tables()
