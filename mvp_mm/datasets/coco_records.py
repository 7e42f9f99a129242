# Copyright (c) mvp_mm authors. All rights reserved.
"""Pieces of COCO-style JSON that several datasets read."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from mvp_mm.datasets.files import load_json, require
from mvp_mm.datasets.index_build import BOX_FAULTS, box_faults

Record = dict[str, Any]


class CocoRecords:
    """A COCO-style file: images, categories, and annotations by image.

    Category ids need not be contiguous; labels are positions in the file's category list.

    Args:
        path: The JSON file.
        annotation_keys: Keys that every annotation must have.
        category_keys: Keys that every category must have.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If a list, a key, an image or a category is missing; names file and record.
    """

    def __init__(self,
                 path: str,
                 annotation_keys: Sequence[str] = ('image_id', 'category_id', 'bbox'),
                 category_keys: Sequence[str] = ('id', 'name')) -> None:
        self.path = str(path)
        content = load_json(path)
        for key in ('images', 'annotations', 'categories'):
            if not isinstance(content.get(key), list):
                raise ValueError(f'{path}: no list of {key}')
        self.categories: list[Record] = content['categories']
        for category in self.categories:
            require(category, category_keys, self.path, 'category')
        self.label_of = {c['id']: label for label, c in enumerate(self.categories)}
        self.images: dict[int, Record] = {}
        for image in content['images']:
            require(image, ('id', 'file_name', 'height', 'width'), self.path, 'image')
            self.images[image['id']] = image
        self.annotations: dict[int, list[Record]] = defaultdict(list)
        for annotation in content['annotations']:
            require(annotation, annotation_keys, self.path, 'annotation')
            if annotation['image_id'] not in self.images:
                raise ValueError(f'{path}: annotation {annotation.get("id")} names unknown image '
                                 f'{annotation["image_id"]}')
            self.annotations[annotation['image_id']].append(annotation)

    def label(self, record: Record, what: str = 'annotation') -> int:
        """Label of a record's category.

        Raises:
            ValueError: If the category is unknown.
        """
        try:
            return self.label_of[record['category_id']]
        except KeyError:
            raise ValueError(f'{self.path}: {what} {record.get("id")} names unknown category '
                             f'{record["category_id"]}') from None

    def base_item(self, image: Record, img_prefix: str) -> Record:
        """The fields that every item has."""
        return dict(
            img_path=str(Path(img_prefix) / image['file_name']),
            img_id=image['id'],
            file_name=image['file_name'],
            height=image['height'],
            width=image['width'])

    def usable(self) -> dict[int, list[Record]]:
        """Annotations by image, without boxes that are not finite or have no area inside it.

        The public files hold some; their number is logged, with examples.
        """
        dropped: list[str] = []
        result = {}
        for image_id, image in self.images.items():
            records = self.annotations.get(image_id, [])
            sides = np.array([self._box(r) for r in records], dtype=np.float64).reshape(-1, 4)
            faults = box_faults(sides, image['height'], image['width']).tolist()
            result[image_id] = [r for r, f in zip(records, faults, strict=True) if not f]
            dropped += [
                f'annotation {r.get("id")} of image {image_id}: box {r["bbox"]}: {BOX_FAULTS[f]}'
                for r, f in zip(records, faults, strict=True) if f]
        if dropped:
            print_log(f'{Path(self.path).name}: {len(dropped)} boxes left out: '
                      f'{"; ".join(dropped[:10])}', logger='current')
        return result

    def _box(self, record: Record) -> list[float]:
        box = record['bbox']
        if not isinstance(box, list) or len(box) != 4:
            raise ValueError(f'{self.path}: annotation {record.get("id")} has bbox {box}, '
                             'expected [x, y, w, h]')
        return box

    def boxes(self, records: Sequence[Record]) -> np.ndarray:
        """Boxes of annotations, (n, 4) float32 xyxy."""
        return xywh_to_xyxy([self._box(r) for r in records])

    def object_fields(self, records: Sequence[Record]) -> Record:
        """``boxes``, ``labels`` and ``crowd`` of annotations."""
        return dict(
            boxes=self.boxes(records),
            labels=np.array([self.label(r) for r in records], dtype=np.int64),
            crowd=np.array([bool(r.get('iscrowd', 0)) for r in records], dtype=bool))


def xywh_to_xyxy(boxes: Sequence[Sequence[float]]) -> np.ndarray:
    """Boxes [x, y, w, h] to an (n, 4) float32 array of xyxy."""
    array = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    array[:, 2:] += array[:, :2]
    return array
