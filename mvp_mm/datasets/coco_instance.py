# Copyright (c) mvp_mm authors. All rights reserved.
"""COCO instance JSON: boxes with polygons or RLE."""
from __future__ import annotations

from typing import Any

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.coco_records import CocoRecords
from mvp_mm.datasets.vocabularies import get_name_style
from mvp_mm.registry import DATASETS


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

    def load_items(self) -> list[dict[str, Any]]:
        """See :meth:`PerceptionDataset.load_items`."""
        records = CocoRecords(
            self.ann_file, annotation_keys=('image_id', 'category_id', 'bbox', 'segmentation'))
        self.set_classes([self.write_name(c['name']) for c in records.categories],
                         [True] * len(records.categories))
        usable = records.usable()
        return [
            dict(
                records.base_item(image, self.data_prefix['img']),
                **records.object_fields(usable[image_id]),
                segmentations=[r['segmentation'] for r in usable[image_id]])
            for image_id, image in records.images.items()
        ]
