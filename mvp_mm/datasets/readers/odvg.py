# Copyright (c) mvp_mm authors. All rights reserved.
"""ODVG: one JSON object per line, for detection or for grounding (Grounding DINO's format)."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.indexing.box_faults import corner_faults
from mvp_mm.datasets.indexing.lines import LineIndex, LineNotes
from mvp_mm.datasets.vocabulary.class_lists import get_name_style
from mvp_mm.datasets.vocabulary.frequent_phrases import PhraseCounter
from mvp_mm.registry import DATASETS
from mvp_mm.utils.faults import Faults, SilentFaults
from mvp_mm.utils.files import load_json
from mvp_mm.utils.records import (
    BOX,
    CLASS_NAME,
    FILE_NAME,
    ID_OR_TEXT,
    LIST,
    SIDE,
    STRING,
    TEXT,
    RecordFormat,
    list_of,
)
from mvp_mm.utils.texts import clean, named, shown

# To be raised when what is taken from a file changes.
_VERSION = 2
LINE = RecordFormat('line', filename=FILE_NAME, height=SIDE, width=SIDE)
# What a line has under its kind, and the records listed there.
PARTS = dict(
    detection=RecordFormat('detection', instances=LIST.optional),
    grounding=RecordFormat('grounding', caption=STRING, regions=LIST))
_CORNERS = BOX._replace(expected='[x1, y1, x2, y2]')
BOXES = dict(
    detection=RecordFormat('instance', bbox=_CORNERS, label=ID_OR_TEXT),
    grounding=RecordFormat('region', bbox=_CORNERS._replace(
        accepts=lambda box: BOX.accepts(box) or bool(box) and _BOX_LIST.accepts(box),
        expected='[x1, y1, x2, y2] or a list of such boxes'), phrase=TEXT))
_BOX_LIST = list_of(BOX)


class _Boxes(NamedTuple):
    """Boxes of a line: (n, 4) xyxy, what each is called, and what is wrong with each."""

    boxes: np.ndarray
    names: list[str]
    reasons: np.ndarray


@DATASETS.register_module()
class OdvgDataset(PerceptionDataset):
    """Lines of ``filename``, ``height``, ``width`` and either of two annotations.

    - ``detection``: ``instances`` with ``bbox`` (xyxy) and ``label``, a key of the label map.
    - ``grounding``: ``caption`` and ``regions`` with ``phrase`` and ``bbox``, one box (xyxy) or a
      list of them. Regions with the same phrase share their targets; the vocabulary holds the
      most frequent phrases, as in :class:`GroundingDataset`.

    Args:
        ann_file: See :class:`PerceptionDataset`.
        label_map_file: JSON of label to class name. With it every line is a detection line,
            without it a grounding line.
        vocabulary_size: Number of phrases in a grounding file's vocabulary.
        name_style: How the label map's names are written (see :func:`get_name_style`), for example
            ``'objects365'``.
        **kwargs: See :class:`PerceptionDataset`; images are numbered by their lines, so
            ``exclude_refs`` is refused.

    Raises:
        ValueError: If a line is broken or of the other kind.
    """

    def __init__(self, ann_file: str, *, label_map_file: str | None = None,
                 vocabulary_size: int = 10000, name_style: str | None = None,
                 **kwargs: Any) -> None:
        self.write_name = get_name_style(name_style)
        self.label_map_file = label_map_file
        self.vocabulary_size = vocabulary_size
        self.kind, self.list = ('grounding', 'regions')
        if label_map_file is not None:
            self.kind, self.list = ('detection', 'instances')
        self.own_captions = label_map_file is None
        super().__init__(ann_file, **kwargs)

    def open_index(self) -> LineIndex:
        """See :meth:`PerceptionDataset.open_index`."""
        names: dict[str, str] = {}
        if self.label_map_file is not None:
            names = self._label_map(self._path(self.label_map_file))
        self._label_of = {key: label for label, key in enumerate(names)}
        counter = PhraseCounter(self.vocabulary_size)

        def note(where: str, content: Any, faults: Faults) -> LineNotes | None:
            found = self._read(where, content, faults)
            if found is None:
                return None
            usable = found.reasons == 0
            if self.kind == 'grounding':
                counter.add(dict.fromkeys(
                    n for n, good in zip(found.names, usable, strict=True) if good))
            bad = [(int(found.reasons[k]), found.boxes[k].tolist())
                   for k in np.flatnonzero(~usable)]
            return LineNotes(content['filename'], bad, len(usable))

        # Of each kind, only what its content depends on.
        options = (dict(labels=list(names)) if self.kind == 'detection'
                   else dict(vocabulary=self.vocabulary_size))
        index = LineIndex(self.ann_file, self.kind, _VERSION, options, note,
                          lambda: dict(phrases=counter.most_frequent()), self.index_dir,
                          self.faults_of(self.ann_file))
        vocabulary = ([self.write_name(name) for name in names.values()] if names
                      else index.facts['summary']['phrases'])
        self.set_classes(vocabulary, [True] * len(vocabulary))
        return index

    def _label_map(self, path: str) -> dict[str, str]:
        """Class name of each label."""
        names, faults = load_json(path), self.faults_of(path)
        if not names:
            faults('no category', 'the label map', 'is empty')
        for label, name in names.items():
            if not CLASS_NAME.accepts(name):
                faults(CLASS_NAME.fault, f'label {named(label)}',
                       f'has the name {shown(name)}, expected {CLASS_NAME.expected}')
                names[label] = shown(name)
        return names

    def _read(self, where: str, content: Any, faults: Faults) -> _Boxes | None:
        """The boxes of a line, None where it is broken."""
        if not LINE.accepts(content, faults, where=where):
            return None
        where = f'{where} ({named(content["filename"])})'
        part = content.get(self.kind)
        if not isinstance(part, dict):
            hint = ('leave label_map_file out' if self.kind == 'detection'
                    else 'a detection file needs label_map_file')
            faults('missing key', where, f'has no {self.kind}; {hint}')
            return None
        if not PARTS[self.kind].accepts(part, faults, where=where):
            return None
        boxes: list[list[float]] = []
        names: list[str] = []
        for place, record in enumerate(part.get(self.list, ())):
            if BOXES[self.kind].accepts(record, faults, place, within=f'{where}, '):
                for box, name in self._named(record, where, faults):
                    boxes.append(box)
                    names.append(name)
        array = np.array(boxes, dtype=np.float64).reshape(-1, 4)
        with np.errstate(over='ignore'):
            stored = array.astype(np.float32)
        return _Boxes(array, names, corner_faults(stored, content['height'], content['width']))

    def _named(self, record: Any, where: str, faults: Faults) -> Iterator[tuple[list[float], str]]:
        """The boxes of an instance or a region, each with its label or phrase."""
        if self.kind == 'detection':
            name = str(record['label'])
            if name not in self._label_of:
                faults('unknown category', where, f'has label {named(name)}, which '
                       f'{self.label_map_file} does not name')
                return
        else:
            name = clean(record['phrase'].lower())
        box = record['bbox']
        for one in box if isinstance(box[0], list) else [box]:
            yield one, name

    def indexed_item(self, index: LineIndex, row: int) -> dict[str, Any]:
        """See :meth:`PerceptionDataset.indexed_item`."""
        number, content = index.content(row)
        found = self._read(f'line {number}', content, SilentFaults(self.ann_file))
        usable = np.flatnonzero(found.reasons == 0)
        names = [found.names[k] for k in usable]
        item = dict(
            img_path=self.image_path(content['filename']), img_id=number,
            file_name=content['filename'], height=content['height'], width=content['width'],
            boxes=found.boxes[usable].astype(np.float32))
        if self.kind == 'detection':
            return dict(item, labels=np.array([self._label_of[n] for n in names], dtype=np.int64))
        spans: dict[str, list[int]] = {}
        for place, name in enumerate(names):
            spans.setdefault(name, []).append(place)
        return dict(item, captions=[content['grounding']['caption']],
                    caption_spans=list(spans.items()))
