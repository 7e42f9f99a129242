# Copyright (c) mvp_mm authors. All rights reserved.
"""COCO-style JSON with boxes only, such as Objects365's."""
from __future__ import annotations

from typing import Any

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.coco_records import CocoRecords
from mvp_mm.registry import DATASETS


@DATASETS.register_module()
class BoxDetectionDataset(PerceptionDataset):
    """Things with boxes. Arguments: see :class:`PerceptionDataset`."""

    def load_items(self) -> list[dict[str, Any]]:
        """See :meth:`PerceptionDataset.load_items`."""
        records = CocoRecords(self.ann_file)
        self.set_classes([c['name'] for c in records.categories], [True] * len(records.categories))
        usable = records.usable()
        return [
            dict(
                records.base_item(image, self.data_prefix['img']),
                **records.object_fields(usable[image_id]))
            for image_id, image in records.images.items()
        ]
