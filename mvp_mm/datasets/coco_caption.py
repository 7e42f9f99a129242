# Copyright (c) mvp_mm authors. All rights reserved.
"""COCO captions JSON: several captions an image."""
from __future__ import annotations

from typing import Any

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.files import load_json, require
from mvp_mm.registry import DATASETS


@DATASETS.register_module()
class CocoCaptionDataset(PerceptionDataset):
    """Images with all their captions, of which a task draws one.

    Arguments: see :class:`PerceptionDataset`.

    Raises:
        ValueError: If a record is broken or a caption is empty.
    """

    def load_items(self) -> list[dict[str, Any]]:
        """See :meth:`PerceptionDataset.load_items`."""
        self.set_classes((), ())
        content = load_json(self.ann_file)
        for key in ('images', 'annotations'):
            if not isinstance(content.get(key), list):
                raise ValueError(f'{self.ann_file}: no list of {key}')
        items: dict[int, dict[str, Any]] = {}
        for image in content['images']:
            require(image, ('id', 'file_name', 'height', 'width'), self.ann_file, 'image')
            items[image['id']] = dict(
                img_path=self.image_path(image['file_name']), img_id=image['id'],
                file_name=image['file_name'], height=image['height'], width=image['width'],
                captions=[])
        for record in content['annotations']:
            require(record, ('image_id', 'caption'), self.ann_file, 'caption')
            self._add(items, record)
        return list(items.values())

    def _add(self, items: dict[int, dict[str, Any]], record: dict[str, Any]) -> None:
        name = f'{self.ann_file}: caption {record.get("id")}'
        if record['image_id'] not in items:
            raise ValueError(f'{name} names unknown image {record["image_id"]}')
        if not isinstance(record['caption'], str) or not record['caption'].strip():
            raise ValueError(f'{name} of image {record["image_id"]} is empty')
        items[record['image_id']]['captions'].append(' '.join(record['caption'].split()))
