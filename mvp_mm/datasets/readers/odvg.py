# Copyright (c) mvp_mm authors. All rights reserved.
"""ODVG: one JSON object a line, for detection or for grounding (Grounding DINO's format)."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.indexing.box_faults import box_faults
from mvp_mm.datasets.indexing.lines import LineIndex, LineNotes
from mvp_mm.datasets.vocabulary.class_lists import get_name_style
from mvp_mm.datasets.vocabulary.frequent_phrases import PhraseCounter
from mvp_mm.registry import DATASETS
from mvp_mm.utils.faults import Faults, ToldBefore
from mvp_mm.utils.files import load_json

# To be raised when what is taken from a file changes.
_VERSION = 1
_LINE_KEYS = ('filename', 'height', 'width')


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
        self.kind, self.list, self.called = ('grounding', 'regions', 'phrase')
        if label_map_file is not None:
            self.kind, self.list, self.called = ('detection', 'instances', 'label')
        self.own_captions = label_map_file is None
        super().__init__(ann_file, **kwargs)

    def open_index(self) -> LineIndex:
        """See :meth:`PerceptionDataset.open_index`."""
        names: dict[str, str] = {}
        if self.label_map_file is not None:
            names = load_json(self._path(self.label_map_file))
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

    def _read(self, where: str, content: Any, faults: Faults) -> _Boxes | None:
        """The boxes of a line, None where it is broken."""
        if not faults.complete(content, _LINE_KEYS, where):
            return None
        where = f'{where} ({content["filename"]})'
        if not all(type(content[side]) is int and content[side] > 0
                   for side in ('height', 'width')):
            faults('broken record', where,
                   f'has height {content["height"]!r}, width {content["width"]!r}')
            return None
        part = content.get(self.kind)
        if not isinstance(part, dict):
            hint = ('leave label_map_file out' if self.kind == 'detection'
                    else 'a detection file needs label_map_file')
            faults('missing key', where, f'has no {self.kind}; {hint}')
            return None
        if self.kind == 'grounding' and not faults.complete(part, ('caption', 'regions'), where):
            return None
        records = part.get(self.list, [])
        if not isinstance(records, list):
            faults('broken record', where,
                   f'must have a list of {self.list}, has {type(records).__name__}')
            return None
        boxes: list[list[float]] = []
        names: list[str] = []
        for record in records:
            for box, name in self._named(record, where, faults):
                boxes.append(box)
                names.append(name)
        array = np.array(boxes, dtype=np.float64).reshape(-1, 4)
        sides = np.concatenate([array[:, :2], array[:, 2:] - array[:, :2]], axis=1)
        return _Boxes(array, names, box_faults(sides, content['height'], content['width']))

    def _named(self, record: Any, where: str, faults: Faults) -> Iterator[tuple[list[float], str]]:
        """The boxes of an instance or a region, each with its label or phrase."""
        if not faults.complete(record, ('bbox', self.called), f'{where}, {self.list}'):
            return
        if self.kind == 'detection':
            name = str(record['label'])
            if name not in self._label_of:
                faults('unknown category', where, f'has label {name}, which '
                       f'{self.label_map_file} does not name')
                return
        else:
            name = ' '.join(str(record['phrase']).lower().split())
            if not name:
                faults('empty sentence', where, 'has a region without a phrase')
                return
        box = record['bbox']
        several = isinstance(box, list) and box and isinstance(box[0], list)
        for one in box if several else [box]:
            if isinstance(one, list) and len(one) == 4 and all(
                    isinstance(number, (int, float)) for number in one):
                yield one, name
            else:
                faults('broken box', where, f'has bbox {one}, expected [x1, y1, x2, y2]')

    def indexed_item(self, index: LineIndex, row: int) -> dict[str, Any]:
        """See :meth:`PerceptionDataset.indexed_item`."""
        number, content = index.content(row)
        found = self._read(f'line {number}', content, ToldBefore(self.ann_file))
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
