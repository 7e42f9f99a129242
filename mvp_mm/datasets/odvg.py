# Copyright (c) mvp_mm authors. All rights reserved.
"""ODVG: one JSON object a line, for detection or for grounding (Grounding DINO's format)."""
from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.files import load_json, require
from mvp_mm.registry import DATASETS


@DATASETS.register_module()
class OdvgDataset(PerceptionDataset):
    """Lines of ``filename``, ``height``, ``width`` and either of two annotations.

    - ``detection``: ``instances`` with ``bbox`` (xyxy) and ``label``, a key of the label map.
    - ``grounding``: ``caption`` and ``regions`` with ``phrase`` and ``bbox``, one box (xyxy) or a
      list of them. Regions with the same phrase share their targets; the vocabulary holds the
      most frequent phrases, as in :class:`GroundingDataset`.

    Boxes without area inside their image are left out and their number is logged.

    Args:
        ann_file: See :class:`PerceptionDataset`.
        label_map_file: JSON of label to class name. With it every line is a detection line,
            without it a grounding line.
        vocabulary_size: Number of phrases in a grounding file's vocabulary.
        **kwargs: See :class:`PerceptionDataset`.

    Raises:
        ValueError: If a line is broken or of the other kind.
    """

    def __init__(self, ann_file: str, *, label_map_file: str | None = None,
                 vocabulary_size: int = 10000, **kwargs: Any) -> None:
        self.label_map_file = label_map_file
        self.vocabulary_size = vocabulary_size
        super().__init__(ann_file, **kwargs)

    def lines(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Name in messages and content of every line.

        Raises:
            ValueError: If a line is no JSON object or lacks a key.
        """
        with open(self.ann_file, encoding='utf-8') as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                where = f'line {number}'
                try:
                    content = json.loads(line)
                except ValueError as error:
                    raise ValueError(f'{self.ann_file}: {where} is not valid JSON: '
                                     f'{error}') from error
                require(content, ('filename', 'height', 'width'), self.ann_file, where)
                yield f'{where} ({content["filename"]})', content

    def load_items(self) -> list[dict[str, Any]]:
        """See :meth:`PerceptionDataset.load_items`."""
        self._dropped = 0
        if self.label_map_file is not None:
            items = self._detection_items()
        else:
            items = self._grounding_items()
        if self._dropped:
            print_log(f'{Path(self.ann_file).name}: {self._dropped} boxes without area left out',
                      logger='current')
        return items

    def _part(self, content: dict[str, Any], kind: str, where: str) -> dict[str, Any]:
        if not isinstance(content.get(kind), dict):
            hint = ('leave label_map_file out' if kind == 'detection'
                    else 'a detection file needs label_map_file')
            raise ValueError(f'{self.ann_file}: {where} has no {kind}; {hint}')
        return content[kind]

    def _base_item(self, number: int, content: dict[str, Any]) -> dict[str, Any]:
        return dict(
            img_path=self.image_path(content['filename']), img_id=number,
            file_name=content['filename'], height=content['height'], width=content['width'])

    def _box(self, box: Any, content: dict[str, Any], where: str) -> list[float] | None:
        """A box, or None where none of it lies in the image."""
        if not isinstance(box, list) or len(box) != 4:
            raise ValueError(f'{self.ann_file}: {where} has bbox {box}, expected [x1, y1, x2, y2]')
        x1, y1, x2, y2 = box
        inside_w = min(x2, content['width']) - max(x1, 0)
        inside_h = min(y2, content['height']) - max(y1, 0)
        # Written so that a NaN is refused too.
        if inside_w > 0 and inside_h > 0:
            return box
        self._dropped += 1
        return None

    def _detection_items(self) -> list[dict[str, Any]]:
        names = load_json(self._path(self.label_map_file))
        self.set_classes(tuple(names.values()), [True] * len(names))
        label_of = {key: label for label, key in enumerate(names)}
        items = []
        for number, (where, content) in enumerate(self.lines()):
            boxes, labels = [], []
            for instance in self._part(content, 'detection', where).get('instances', []):
                require(instance, ('bbox', 'label'), self.ann_file, f'{where}, instance')
                if str(instance['label']) not in label_of:
                    raise ValueError(f'{self.ann_file}: {where} has label {instance["label"]}, '
                                     f'which {self.label_map_file} does not name')
                box = self._box(instance['bbox'], content, where)
                if box is not None:
                    boxes.append(box)
                    labels.append(label_of[str(instance['label'])])
            items.append(dict(
                self._base_item(number, content), boxes=_array(boxes),
                labels=np.array(labels, dtype=np.int64), crowd=np.zeros(len(boxes), dtype=bool)))
        return items

    def _grounding_items(self) -> list[dict[str, Any]]:
        frequency: Counter[str] = Counter()
        items = []
        for number, (where, content) in enumerate(self.lines()):
            part = self._part(content, 'grounding', where)
            require(part, ('caption', 'regions'), self.ann_file, where)
            boxes: list[list[float]] = []
            spans: dict[str, list[int]] = {}
            for region in part['regions']:
                require(region, ('bbox', 'phrase'), self.ann_file, f'{where}, region')
                phrase = ' '.join(str(region['phrase']).lower().split())
                if not phrase:
                    raise ValueError(f'{self.ann_file}: {where} has a region without a phrase')
                several = region['bbox'] and isinstance(region['bbox'][0], list)
                for box in region['bbox'] if several else [region['bbox']]:
                    if self._box(box, content, where) is not None:
                        spans.setdefault(phrase, []).append(len(boxes))
                        boxes.append(box)
            frequency.update(spans.keys())
            items.append(dict(
                self._base_item(number, content), boxes=_array(boxes),
                captions=[part['caption']], caption_spans=list(spans.items())))
        phrases = [phrase for phrase, _ in frequency.most_common(self.vocabulary_size)]
        self.set_classes(phrases, [True] * len(phrases))
        return items


def _array(boxes: list[list[float]]) -> np.ndarray:
    return np.array(boxes, dtype=np.float32).reshape(-1, 4)
