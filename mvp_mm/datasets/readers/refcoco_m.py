# Copyright (c) mvp_mm authors. All rights reserved.
"""RefCOCO-M: RefCOCO's validation split (UNC) with masks drawn anew."""
from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.indexing.box_faults import BOX_FAULTS, box_faults, to_corners
from mvp_mm.registry import DATASETS
from mvp_mm.utils.faults import Faults
from mvp_mm.utils.files import load_records
from mvp_mm.utils.masks import to_rle
from mvp_mm.utils.records import (
    BOX,
    FILE_NAME,
    ID,
    ID_OR_TEXT,
    LIST,
    OBJECT,
    SIDE,
    TEXT,
    RecordFormat,
    list_of,
)

IMAGE = RecordFormat('image', ident='image_id', image_id=ID, file_name=FILE_NAME, samples=LIST)
SAMPLE = RecordFormat('sample', id=ID_OR_TEXT, bbox=BOX, mask=OBJECT, sentences=list_of(TEXT))
_LEAST_OVERLAP = 0.5


@DATASETS.register_module()
class RefCocoMDataset(PerceptionDataset):
    """One item is one image with all its sentences; its objects have masks.

    ``ann_file`` is JSON, a list of images, or JSON lines: the published table without its images.
    A sample has ``bbox`` (x, y, w, h), ``mask`` (a compressed RLE) and ``sentences``; the image's
    size is that of its masks.

    Arguments: see :class:`PerceptionDataset`.

    Raises:
        ValueError: If a record is broken, or a box is not its mask's.
    """

    checks_items_itself = True

    def load_items(self) -> list[dict[str, Any]]:
        """See :meth:`PerceptionDataset.load_items`."""
        self.set_classes((), ())
        faults = self.faults_of(self.ann_file)
        items = [item for _, place, record in load_records(self.ann_file, faults)
                 if IMAGE.accepts(record, faults, place) and (item := self._item(record, faults))]
        faults.repeated([item['img_id'] for item in items], 'image')
        faults.count('images', len(items))
        faults.count('samples', sum(len(item['boxes']) for item in items))
        return items

    def _item(self, record: dict[str, Any], faults: Faults) -> dict[str, Any] | None:
        within = f'{IMAGE.where(record)}, '
        samples = [sample for place, sample in enumerate(record['samples'])
                   if SAMPLE.accepts(sample, faults, place, within=within)]
        sizes = [sample['mask'].get('size') for sample in samples]
        if not sizes or any(size != sizes[0] for size in sizes) or not (
                isinstance(sizes[0], list) and len(sizes[0]) == 2
                and all(map(SIDE.accepts, sizes[0]))):
            faults('broken mask', IMAGE.where(record), 'has no samples whose masks have one size')
            return None
        height, width = sizes[0]
        usable = [sample for sample in samples
                  if self._fits(sample, height, width, within + SAMPLE.where(sample), faults)]
        boxes = np.array([sample['bbox'] for sample in usable], dtype=np.float64)
        return dict(
            img_path=self.image_path(record['file_name']), img_id=record['image_id'],
            file_name=record['file_name'], height=height, width=width, boxes=to_corners(boxes),
            segmentations=[sample['mask'] for sample in usable],
            ann_ids=[sample['id'] for sample in usable],
            referrals=[(sentence, [place], sample['id'], f'{sample["id"]}.{k}')
                       for place, sample in enumerate(usable)
                       for k, sentence in enumerate(sample['sentences'])])

    def _fits(self, sample: dict[str, Any], height: int, width: int, where: str,
              faults: Faults) -> bool:
        """Whether box and mask can be used and are about one object."""
        reason = box_faults(np.array([sample['bbox']]), height, width)[0]
        if reason:
            faults('broken box', where, f'has the box {sample["bbox"]}: {BOX_FAULTS[reason]}')
            return False
        try:
            rle = to_rle(sample['mask'], height, width, f'{self.ann_file}: {where}')
        except ValueError as error:
            faults('broken mask', where, str(error).removeprefix(f'{self.ann_file}: {where}: '))
            return False
        around = coco_mask.toBbox([rle])
        overlap = coco_mask.iou(around, np.array([sample['bbox']], dtype=np.float64), [0])[0, 0]
        if overlap < _LEAST_OVERLAP:
            faults('contradiction', where, f'has the box {sample["bbox"]} (x, y, w, h), its mask '
                   f'{around[0].tolist()}')
        return overlap >= _LEAST_OVERLAP
