# Copyright (c) mvp_mm authors. All rights reserved.
"""COCO-style JSON with boxes only, such as Objects365's."""
from __future__ import annotations

from typing import Any

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.indexing.coco import CocoIndex
from mvp_mm.datasets.indexing.layout import CocoLayout
from mvp_mm.registry import DATASETS


@DATASETS.register_module()
class BoxDetectionDataset(PerceptionDataset):
    """Things with boxes. Arguments: see :class:`PerceptionDataset`."""

    def open_index(self) -> CocoIndex:
        """See :meth:`PerceptionDataset.open_index`."""
        index = CocoIndex(self.ann_file, CocoLayout(with_areas=self.test_mode), self.index_dir,
                          self.faults_of(self.ann_file))
        self.set_classes([c['name'] for c in index.categories], [True] * len(index.categories))
        return index

    def indexed_item(self, index: CocoIndex, row: int) -> dict[str, Any]:
        """See :meth:`PerceptionDataset.indexed_item`; ``areas`` serve evaluation."""
        item = super().indexed_item(index, row)
        if self.test_mode:
            item['areas'] = index.image(row)[1]['area'].copy()
        return item
