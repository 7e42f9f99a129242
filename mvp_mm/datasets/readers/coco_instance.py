# Copyright (c) mvp_mm authors. All rights reserved.
"""COCO instance JSON: boxes with polygons or RLE."""
from __future__ import annotations

from typing import Any

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.indexing.coco import CocoIndex
from mvp_mm.datasets.indexing.layout import MaskLayout
from mvp_mm.datasets.vocabulary.class_lists import get_name_style
from mvp_mm.registry import DATASETS


def masks_of(index: CocoIndex, row: int) -> dict[str, Any]:
    """``segmentations``, ``ann_ids`` and ``areas`` of an image's objects."""
    objects = index.image(row)[1]
    return dict(segmentations=[record['segmentation'] for record in index.records(objects)],
                ann_ids=index.annotation_ids(objects['ident']), areas=objects['area'].copy())


@DATASETS.register_module()
class CocoInstanceDataset(PerceptionDataset):
    """Things with masks.

    Args:
        *args: See :class:`PerceptionDataset`.
        name_style: How class names are written (see :func:`get_name_style`).
        **kwargs: See :class:`PerceptionDataset`.
    """

    def __init__(self, *args: Any, name_style: str | None = None, **kwargs: Any) -> None:
        self.write_name = get_name_style(name_style)
        super().__init__(*args, **kwargs)

    def open_index(self) -> CocoIndex:
        """See :meth:`PerceptionDataset.open_index`."""
        index = CocoIndex(self.ann_file, MaskLayout(), self.index_dir,
                          self.faults_of(self.ann_file))
        self.set_classes([self.write_name(c['name']) for c in index.categories],
                         [True] * len(index.categories))
        return index

    def indexed_item(self, index: CocoIndex, row: int) -> dict[str, Any]:
        """See :meth:`PerceptionDataset.indexed_item`."""
        return dict(super().indexed_item(index, row), **masks_of(index, row))
