# Copyright (c) mvp_mm authors. All rights reserved.
"""COCO captions JSON: several captions per image."""
from __future__ import annotations

from typing import Any

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.indexing.layout import CocoLayout
from mvp_mm.registry import DATASETS
from mvp_mm.utils.files import load_json
from mvp_mm.utils.records import ID, ID_OR_TEXT, TEXT, RecordFormat
from mvp_mm.utils.texts import clean

CAPTION = RecordFormat('caption', id=ID_OR_TEXT.optional, image_id=ID, caption=TEXT)


@DATASETS.register_module()
class CocoCaptionDataset(PerceptionDataset):
    """Images with all their captions, of which a task draws one.

    Arguments: see :class:`PerceptionDataset`.

    Raises:
        ValueError: If a record is broken or a caption is empty.
    """

    checks_items_itself = True

    def load_items(self) -> list[dict[str, Any]]:
        """See :meth:`PerceptionDataset.load_items`."""
        self.set_classes((), ())
        content = load_json(self.ann_file)
        for key in ('images', 'annotations'):
            if not isinstance(content.get(key), list):
                raise ValueError(f'{self.ann_file}: no list of {key}')
        faults = self.faults_of(self.ann_file)
        items: dict[int, dict[str, Any]] = {}
        for place, image in enumerate(content['images']):
            if CocoLayout.image.accepts(image, faults, place):
                if image['id'] in items:
                    faults('duplicate id', f'image {image["id"]}', 'occurs twice')
                items[image['id']] = dict(
                    img_path=self.image_path(image['file_name']), img_id=image['id'],
                    file_name=image['file_name'], height=image['height'], width=image['width'],
                    captions=[])
        for place, record in enumerate(content['annotations']):
            if not CAPTION.accepts(record, faults, place):
                continue
            if record['image_id'] in items:
                items[record['image_id']]['captions'].append(clean(record['caption']))
            else:
                faults('unknown image', CAPTION.where(record, place),
                       f'names unknown image {record["image_id"]}')
        faults.count('images', len(items))
        faults.count('captions', len(content['annotations']))
        for image_id, item in items.items():
            if not item['captions']:
                faults.warn('no caption', f'image {image_id}', 'has no caption')
        return list(items.values())
