# Copyright (c) mvp_mm authors. All rights reserved.
"""From COCO-style JSON to tables grouped by image, in one pass and bounded memory."""
from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from mvp_mm.datasets.files import require
from mvp_mm.datasets.index_json import JsonStream

# `name` and `first`: where the image's file name and its objects begin in their tables.
IMAGE = np.dtype([('id', '<i8'), ('height', '<i4'), ('width', '<i4'), ('name', '<i8'),
                  ('first', '<i8')])
BOX_FAULTS = ('', 'not finite', 'negative size', 'no area', 'outside the image')
_EXAMPLES = 10
_BLOCK = 1 << 20
_IMAGE_KEYS = ('id', 'file_name', 'height', 'width')
_CATEGORY_KEYS = ('id', 'name')


def object_type(with_records: bool) -> np.dtype:
    """Type of an object's row; ``begin`` and ``length`` locate its record in the JSON file."""
    fields = [('box', '<f4', 4), ('label', '<i4'), ('crowd', '?')]
    if with_records:
        fields += [('begin', '<i8'), ('length', '<i4')]
    return np.dtype(fields)


def box_faults(boxes: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """What is wrong with boxes.

    Args:
        boxes: (n, 4) xywh.
        heights: (n,) of their images.
        widths: (n,) of their images.

    Returns:
        (n,) positions in ``BOX_FAULTS``, 0 for a box with area inside its image.
    """
    x, y, w, h = np.asarray(boxes, dtype=np.float64).reshape(-1, 4).T
    with np.errstate(invalid='ignore'):
        inside_w = np.minimum(x + w, widths) - np.maximum(x, 0)
        inside_h = np.minimum(y + h, heights) - np.maximum(y, 0)
        return np.select(
            [~(np.isfinite(x) & np.isfinite(y) & np.isfinite(w) & np.isfinite(h)),
             (w < 0) | (h < 0), (w == 0) | (h == 0), ~((inside_w > 0) & (inside_h > 0))],
            [1, 2, 3, 4], 0)


class _Collector:
    """Takes records in any order; annotations may come before the images they name."""

    def __init__(self, path: str, annotation_keys: Sequence[str], with_records: bool) -> None:
        self.path = path
        self.keys = tuple(annotation_keys)
        self.has_labels = 'category_id' in self.keys
        self.with_records = with_records
        self.categories: list[dict] = []
        self.image_ids, self.heights, self.widths = array('q'), array('q'), array('q')
        self.names: list[bytes] = []
        # Numbers given to ids in the order of their first mention.
        self.number_of: dict[int, int] = {}
        self.class_of: dict[int, int] = {}
        self.owners, self.classes, self.idents = array('i'), array('i'), array('q')
        self.boxes, self.crowd = array('d'), array('b')
        self.begins, self.lengths = array('q'), array('i')

    def fail(self, message: str) -> NoReturn:
        raise ValueError(f'{self.path}: {message}')

    def image(self, record: dict) -> None:
        require(record, _IMAGE_KEYS, self.path, 'image')
        ident, name = record['id'], record['file_name']
        if type(ident) is not int:
            self.fail(f'image id {ident!r} must be a whole number')
        if not isinstance(name, str) or not name:
            self.fail(f'image {ident} has file_name {name!r}')
        for side, column in (('height', self.heights), ('width', self.widths)):
            if type(record[side]) is not int or record[side] < 1:
                self.fail(f'image {ident} has {side} {record[side]!r}')
            column.append(record[side])
        self.image_ids.append(ident)
        self.names.append(name.encode())

    def annotation(self, record: dict, begin: int, end: int) -> None:
        require(record, self.keys, self.path, 'annotation')
        box, image_id = record['bbox'], record['image_id']
        try:
            if type(box) is not list or len(box) != 4:
                raise TypeError
            self.boxes.extend(box)
        except TypeError:
            self.fail(f'annotation {record.get("id")} has bbox {box}, expected [x, y, w, h]')
        if type(image_id) is not int:
            self.fail(f'annotation {record.get("id")} has image_id {image_id!r}')
        ident = record.get('id', -1)
        self.idents.append(ident if type(ident) is int else -1)
        self.owners.append(self.number_of.setdefault(image_id, len(self.number_of)))
        self.crowd.append(bool(record.get('iscrowd', 0)))
        if self.has_labels:
            class_id = record['category_id']
            self.classes.append(self.class_of.setdefault(class_id, len(self.class_of)))
        if self.with_records:
            self.begins.append(begin)
            self.lengths.append(end - begin)

    def _resolve(self, numbers: array, number_of: dict, ids: Sequence, what: str) -> np.ndarray:
        """Positions in the file's list in place of numbers given by first mention."""
        position = {ident: index for index, ident in enumerate(ids)}
        if len(position) != len(ids):
            seen: set = set()
            twice = next(i for i in ids if i in seen or seen.add(i))
            self.fail(f'{what} id {twice} occurs twice')
        table = np.array([position.get(ident, -1) for ident in number_of], dtype=np.int32)
        resolved = table[np.frombuffer(numbers, dtype=np.int32)] if len(numbers) else table[:0]
        if (resolved < 0).any():
            row = int(np.argmin(resolved))
            unknown = list(number_of)[numbers[row]]
            self.fail(f'annotation {self.idents[row]} names unknown {what} {unknown}')
        return resolved

    def tables(self) -> tuple[np.ndarray, np.ndarray, _Objects]:
        """The table of images, the bytes of their names, and the objects."""
        owners = self._resolve(self.owners, self.number_of, self.image_ids, 'image')
        labels = np.full(len(owners), -1, dtype=np.int32)
        if self.has_labels:
            labels = self._resolve(
                self.classes, self.class_of, [c['id'] for c in self.categories], 'category')
        self.number_of.clear()
        images = np.zeros(len(self.image_ids) + 1, dtype=IMAGE)
        images['id'][:-1] = self.image_ids
        images['height'][:-1] = self.heights
        images['width'][:-1] = self.widths
        images['name'][1:] = np.cumsum([len(name) for name in self.names])
        objects = _Objects(self, owners, labels)
        images['first'][1:] = np.cumsum(np.bincount(
            owners[objects.order], minlength=len(self.image_ids)))
        return images, np.frombuffer(b''.join(self.names), dtype=np.uint8), objects


class _Objects:
    """Usable annotations in the order of their images."""

    def __init__(self, source: _Collector, owners: np.ndarray, labels: np.ndarray) -> None:
        self.source, self.labels = source, labels
        self.boxes = np.array(source.boxes, copy=False).reshape(-1, 4)
        heights, widths = np.array(source.heights), np.array(source.widths)
        faults = np.zeros(len(owners), dtype=np.int8)
        for start in range(0, len(owners), _BLOCK):
            block = slice(start, start + _BLOCK)
            owner = owners[block]
            faults[block] = box_faults(self.boxes[block], heights[owner], widths[owner])
        usable = np.flatnonzero(faults == 0)
        self.order = usable[np.argsort(owners[usable], kind='stable')]
        self.report = self._report(faults, owners)

    def _report(self, faults: np.ndarray, owners: np.ndarray) -> dict[str, Any]:
        bad = np.flatnonzero(faults)
        counts = np.bincount(faults[bad], minlength=len(BOX_FAULTS)).tolist()
        examples = [
            f'annotation {self.source.idents[i]} of image {self.source.image_ids[owners[i]]}: '
            f'box {self.boxes[i].tolist()}: {BOX_FAULTS[faults[i]]}' for i in bad[:_EXAMPLES]]
        return dict(
            total=len(faults), examples=examples,
            counts={BOX_FAULTS[k]: n for k, n in enumerate(counts) if n})

    def rows(self, start: int) -> np.ndarray:
        """A block of the table."""
        source, chosen = self.source, self.order[start:start + _BLOCK]
        rows = np.zeros(len(chosen), dtype=object_type(source.with_records))
        box = self.boxes[chosen].astype(np.float32)
        box[:, 2:] += box[:, :2]
        rows['box'], rows['label'] = box, self.labels[chosen]
        rows['crowd'] = np.frombuffer(source.crowd, dtype=np.int8)[chosen]
        if source.with_records:
            rows['begin'] = np.frombuffer(source.begins, dtype=np.int64)[chosen]
            rows['length'] = np.frombuffer(source.lengths, dtype=np.int32)[chosen]
        return rows


def build_tables(path: str, annotation_keys: Sequence[str], with_records: bool,
                 folder: Path | None = None
                 ) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray] | None, dict[str, Any]]:
    """Read a file into tables.

    Args:
        path: The JSON file.
        annotation_keys: Keys that every annotation must have.
        with_records: Whether to note where each annotation stands in the file.
        folder: Where to write ``images.bin``, ``names.bin`` and ``objects.bin``; None returns
            the tables.

    Returns:
        The tables, or None where they are written; and ``categories`` and ``faults``.

    Raises:
        ValueError: If a record is broken; names the file and the record.
    """
    collector = _Collector(path, annotation_keys, with_records)
    lists = ('images', 'annotations', 'categories')
    for key, record, begin, end in JsonStream(path).records(lists):
        if key == 'annotations':
            collector.annotation(record, begin, end)
        elif key == 'images':
            collector.image(record)
        else:
            require(record, _CATEGORY_KEYS, path, 'category')
            collector.categories.append(record)
    images, names, objects = collector.tables()
    facts = dict(categories=collector.categories, faults=objects.report)
    blocks = range(0, len(objects.order), _BLOCK)
    if folder is None:
        empty = np.zeros(0, dtype=object_type(with_records))
        return (images, names, np.concatenate([empty, *map(objects.rows, blocks)])), facts
    images.tofile(folder / 'images.bin')
    names.tofile(folder / 'names.bin')
    with (folder / 'objects.bin').open('wb') as file:
        for start in blocks:
            objects.rows(start).tofile(file)
    return None, facts
