# Copyright (c) mvp_mm authors. All rights reserved.
"""COCO panoptic JSON with a folder of PNG segment maps."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.indexing.coco import CocoIndex
from mvp_mm.datasets.indexing.layout import CocoLayout
from mvp_mm.datasets.vocabulary.class_lists import get_name_style
from mvp_mm.registry import DATASETS
from mvp_mm.utils.records import (
    BOX,
    FILE_NAME,
    FLAG,
    ID_OR_TEXT,
    LIST,
    SEGMENT_ID,
    RecordFormat,
)

COCO_SUFFIXES = ('-merged', '-other', '-stuff')


def strip_suffixes(name: str, suffixes: Sequence[str]) -> str:
    """A class name without technical endings, as ``wall-other-merged`` → ``wall``."""
    stripped = True
    while stripped:
        stripped = False
        for suffix in suffixes:
            if name.endswith(suffix):
                name, stripped = name.removesuffix(suffix), True
    return name


class PanopticLayout(CocoLayout):
    """One annotation per image, with its segments and the name of their map.

    Images may be called by texts, as those of Cityscapes are.
    """

    name = 'panoptic'
    image = CocoLayout.image.but(id=ID_OR_TEXT)
    annotation = RecordFormat('annotation', ident='', image_id=ID_OR_TEXT, file_name=FILE_NAME,
                              segments_info=LIST)
    category = CocoLayout.category.but(isthing=FLAG)
    segment = RecordFormat('segment', id=SEGMENT_ID, category_id=ID_OR_TEXT, bbox=BOX,
                           iscrowd=FLAG.optional)
    image_records = 'annotations'


@DATASETS.register_module()
class CocoPanopticDataset(PerceptionDataset):
    """Things and stuff with masks; every segment is an object.

    Images without an annotation are left out, and those with a segment whose box cannot be used:
    its pixels are in the map all the same.

    Args:
        *args: See :class:`PerceptionDataset`; ``data_prefix`` has ``img`` and ``seg``.
        strip: Endings removed from class names, which say nothing to a reader.
        name_style: How class names are written (see :func:`get_name_style`): None as in the file,
            ``'first_synonym'`` for ADE20K.
        **kwargs: See :class:`PerceptionDataset`.
    """

    required_prefixes = ('img', 'seg')

    def __init__(self, *args: Any, strip: Sequence[str] = COCO_SUFFIXES,
                 name_style: str | None = None, **kwargs: Any) -> None:
        self.strip = tuple(strip)
        self.write_name = get_name_style(name_style)
        super().__init__(*args, **kwargs)

    def open_index(self) -> CocoIndex:
        """See :meth:`PerceptionDataset.open_index`."""
        index = CocoIndex(self.ann_file, PanopticLayout(), self.index_dir,
                          self.faults_of(self.ann_file))
        self.set_classes([self.write_name(strip_suffixes(c['name'], self.strip))
                          for c in index.categories], [c['isthing'] for c in index.categories])
        return index

    def used_rows(self, index: CocoIndex) -> np.ndarray:
        """See :meth:`PerceptionDataset.used_rows`."""
        used = index.with_record()
        self.faults_of(self.ann_file).note('images without an annotation', int((~used).sum()))
        for block in index.bad_boxes.blocks():
            used[block['image']] = False
        return np.flatnonzero(used)

    def indexed_item(self, index: CocoIndex, row: int) -> dict[str, Any]:
        """See :meth:`PerceptionDataset.indexed_item`."""
        record = index.image_record(row)
        return dict(
            super().indexed_item(index, row),
            img_id=record['image_id'],
            panoptic_path=str(Path(self.data_prefix['seg']) / record['file_name']),
            segment_ids=index.image(row)[1]['ident'].copy())
