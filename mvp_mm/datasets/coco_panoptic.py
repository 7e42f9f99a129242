# Copyright (c) mvp_mm authors. All rights reserved.
"""COCO panoptic JSON with a folder of PNG segment maps."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.coco_records import CocoRecords, xywh_to_xyxy
from mvp_mm.datasets.files import require
from mvp_mm.datasets.vocabularies import get_name_style
from mvp_mm.registry import DATASETS

_COCO_SUFFIXES = ('-merged', '-other', '-stuff')


def strip_suffixes(name: str, suffixes: Sequence[str]) -> str:
    """A class name without technical endings, as ``wall-other-merged`` → ``wall``."""
    stripped = True
    while stripped:
        stripped = False
        for suffix in suffixes:
            if name.endswith(suffix):
                name, stripped = name.removesuffix(suffix), True
    return name


@DATASETS.register_module()
class CocoPanopticDataset(PerceptionDataset):
    """Things and stuff with masks; every segment is an object.

    Args:
        *args: See :class:`PerceptionDataset`; ``data_prefix`` has ``img`` and ``seg``.
        strip: Endings removed from class names, which say nothing to a reader.
        name_style: How class names are written (see :func:`get_name_style`): None as in the file,
            ``'first_synonym'`` for ADE20K.
        **kwargs: See :class:`PerceptionDataset`.
    """

    required_prefixes = ('img', 'seg')

    def __init__(self, *args: Any, strip: Sequence[str] = _COCO_SUFFIXES,
                 name_style: str | None = None, **kwargs: Any) -> None:
        self.strip = tuple(strip)
        self.write_name = get_name_style(name_style)
        super().__init__(*args, **kwargs)

    def load_items(self) -> list[dict[str, Any]]:
        """See :meth:`PerceptionDataset.load_items`."""
        records = CocoRecords(
            self.ann_file,
            annotation_keys=('image_id', 'file_name', 'segments_info'),
            category_keys=('id', 'name', 'isthing'))
        names = [self.write_name(strip_suffixes(c['name'], self.strip)) for c in records.categories]
        self.set_classes(names, [c['isthing'] for c in records.categories])
        return [
            self._item(records, image, annotation) for image_id, image in records.images.items()
            for annotation in records.annotations.get(image_id, ())
        ]

    def _item(self, records: CocoRecords, image: dict, annotation: dict) -> dict[str, Any]:
        segments = annotation['segments_info']
        for segment in segments:
            require(segment, ('id', 'category_id', 'bbox'), self.ann_file,
                    f'image {image["id"]}, segment')
        ids = np.array([s['id'] for s in segments], dtype=np.int64)
        if len(np.unique(ids)) != len(ids) or (ids <= 0).any():
            raise ValueError(f'{self.ann_file}: segment ids of image {image["id"]} must be '
                             f'positive and different, got {ids.tolist()}')
        return dict(
            records.base_item(image, self.data_prefix['img']),
            boxes=xywh_to_xyxy([s['bbox'] for s in segments]),
            labels=np.array([records.label(s, f'image {image["id"]}, segment') for s in segments],
                            dtype=np.int64),
            crowd=np.array([bool(s.get('iscrowd', 0)) for s in segments], dtype=bool),
            panoptic_path=str(Path(self.data_prefix['seg']) / annotation['file_name']),
            segment_ids=ids)
