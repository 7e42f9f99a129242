# Copyright (c) mvp_mm authors. All rights reserved.
"""COCO captions JSON: several captions an image."""
from __future__ import annotations

from typing import Any

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.registry import DATASETS
from mvp_mm.utils.faults import Faults
from mvp_mm.utils.files import load_json


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
        faults = self.faults_of(self.ann_file)
        items: dict[int, dict[str, Any]] = {}
        for image in content['images']:
            if faults.complete(image, ('id', 'file_name', 'height', 'width'), 'image'):
                if image['id'] in items:
                    faults('duplicate id', f'image {image["id"]}', 'occurs twice')
                items[image['id']] = dict(
                    img_path=self.image_path(image['file_name']), img_id=image['id'],
                    file_name=image['file_name'], height=image['height'], width=image['width'],
                    captions=[])
        for record in content['annotations']:
            if faults.complete(record, ('image_id', 'caption'), 'caption'):
                self._add(items, record, faults)
        faults.count('images', len(items))
        faults.count('captions', len(content['annotations']))
        for image_id, item in items.items():
            if not item['captions']:
                faults.minor('no caption', f'image {image_id}', 'has no caption')
        return list(items.values())

    @staticmethod
    def _add(items: dict[int, dict[str, Any]], record: dict[str, Any], faults: Faults) -> None:
        name, image_id, text = f'caption {record.get("id")}', record['image_id'], record['caption']
        if image_id not in items:
            faults('unknown image', name, f'names unknown image {image_id}')
        elif not isinstance(text, str) or not text.strip():
            faults('empty sentence', name, f'of image {image_id} is empty')
        else:
            items[image_id]['captions'].append(' '.join(text.split()))
