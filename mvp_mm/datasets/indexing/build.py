# Copyright (c) mvp_mm authors. All rights reserved.
"""From COCO-style JSON to tables grouped by image, in one pass and bounded memory."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mvp_mm.datasets.indexing.box_faults import BAD_BOX, box_faults, to_corners
from mvp_mm.datasets.indexing.collector import NO_ID, Collector
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
    if layout.with_areas:
        fields += [('area', '<f8')]
    if layout.object_records:
        fields += [('begin', '<i8'), ('length', '<i4')]
    return np.dtype(fields)


def _image_rows(source: Collector, places: dict) -> np.ndarray:
    """Rows of type ``IMAGE``, and the sentinel row that holds the end offsets."""
    images = np.zeros(len(source.image_ids) + 1, dtype=IMAGE)
    images['id'][:-1] = [i if type(i) is int else -1 for i in source.image_ids]
    images['height'][:-1] = source.heights
    images['width'][:-1] = source.widths
    images['name'][1:] = np.cumsum([len(name) for name in source.names])
    for ident, (begin, length) in source.image_spans.items():
        if ident in places:
            images['begin'][places[ident]], images['length'][places[ident]] = begin, length
    return images


class Tables:
    """Images, names of their files, and usable objects in the order of their images.

    Args:
        source: Every record of the file.
    """

    def __init__(self, source: Collector) -> None:
        places, owners, labels = source.resolved()
        images = _image_rows(source, places)
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
        if source.layout.segment is None and len(source.idents):
            idents = np.sort(np.frombuffer(source.idents, dtype=np.int64))
            repeated = np.unique(idents[1:][(idents[1:] == idents[:-1]) & (idents[1:] != NO_ID)])
        return dict(
            categories=source.categories, objects=len(source.idents),
            texts=list(source.texts), sticking_out=self.sticking_out,
            repeated=repeated[:_REPEATED].tolist(), number_repeated=len(repeated))

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
        rows['box'], rows['label'] = to_corners(self.boxes[chosen]), self.labels[chosen]
        rows['crowd'] = np.frombuffer(source.crowd, dtype=np.int8)[chosen]
        if source.layout.with_idents:
            rows['ident'] = np.frombuffer(source.idents, dtype=np.int64)[chosen]
        if source.layout.with_areas:
            rows['area'] = np.frombuffer(source.areas, dtype=np.float64)[chosen]
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
    places = dict.fromkeys(collector.take, -1)
    for key, record, begin, end in JsonStream(path).records(tuple(places)):
        places[key] += 1
        collector.take[key](places[key], record, begin, end)
    return Tables(collector)
