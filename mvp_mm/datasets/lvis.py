# Copyright (c) mvp_mm authors. All rights reserved.
"""LVIS v1: 1203 classes on COCO images, of which each image answers for some."""
from __future__ import annotations

from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from mmengine.logging import print_log

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.coco_records import xywh_to_xyxy
from mvp_mm.datasets.files import load_json, require
from mvp_mm.datasets.vocabularies import spaced
from mvp_mm.registry import DATASETS

_IMAGE_KEYS = ('id', 'coco_url', 'height', 'width', 'neg_category_ids',
               'not_exhaustive_category_ids')
_ANNOTATION_KEYS = ('id', 'image_id', 'category_id', 'bbox', 'segmentation')


def image_file(coco_url: str) -> str:
    """Folder and name of an image in COCO 2017's tree: ``val2017/000000397133.jpg``."""
    return '/'.join(PurePosixPath(coco_url).parts[-2:])


@DATASETS.register_module()
class LvisDataset(PerceptionDataset):
    """LVIS v1 instances. Class names are written with spaces.

    The annotation is federated: an image tells which classes it shows (with all their objects, or
    not with all), and which classes it surely does not show; about the others nothing is known.
    Items carry ``neg_labels`` and ``not_exhaustive_labels``.

    Args:
        *args: See :class:`PerceptionDataset`; ``data_prefix['img']`` is the folder that holds
            ``train2017`` and ``val2017``.
        listed: ``'all'``: every image is asked about the 1203 names, more than most token
            budgets hold. ``'verified'``: an image is asked about the names for which its
            annotation is complete, present or absent; its objects of other classes become crowd
            regions without a class. The latter is a check over known names, not LVIS's own AP.
        **kwargs: See :class:`PerceptionDataset`.

    Raises:
        ValueError: If a record is broken, or ``listed`` is unknown.
    """

    def __init__(self, *args: Any, listed: str = 'all', **kwargs: Any) -> None:
        if listed not in ('all', 'verified'):
            raise ValueError(f"listed must be 'all' or 'verified', got {listed!r}")
        self.listed = listed
        super().__init__(*args, **kwargs)

    def load_items(self) -> list[dict[str, Any]]:
        """See :meth:`PerceptionDataset.load_items`."""
        content = load_json(self.ann_file)
        for key in ('images', 'annotations', 'categories'):
            if not isinstance(content.get(key), list):
                raise ValueError(f'{self.ann_file}: no list of {key}')
        for category in content['categories']:
            require(category, ('id', 'name'), self.ann_file, 'category')
        self.set_classes([spaced(c['name']) for c in content['categories']],
                         [True] * len(content['categories']))
        self._label_of = {c['id']: k for k, c in enumerate(content['categories'])}
        self._dropped = 0
        by_image = defaultdict(list)
        for record in content['annotations']:
            require(record, _ANNOTATION_KEYS, self.ann_file, 'annotation')
            by_image[record['image_id']].append(record)
        items = [self._item(image, by_image.pop(image.get('id'), []))
                 for image in content['images']]
        if by_image:
            image_id, records = next(iter(by_image.items()))
            raise ValueError(f'{self.ann_file}: annotation {records[0]["id"]} names unknown image '
                             f'{image_id}')
        _log(self.ann_file, self._dropped, 'boxes without area')
        if self.listed == 'verified':
            asked = [item for item in items if len(_verified(item['labels'], item))]
            _log(self.ann_file, len(items) - len(asked), 'images without a verified class')
            items = asked
        return items

    def _item(self, image: dict[str, Any], records: list[dict[str, Any]]) -> dict[str, Any]:
        require(image, _IMAGE_KEYS, self.ann_file, 'image')
        for record in records:
            if not isinstance(record['bbox'], list) or len(record['bbox']) != 4:
                raise ValueError(f'{self.ann_file}: annotation {record["id"]} has bbox '
                                 f'{record["bbox"]}, expected [x, y, w, h]')
        usable = [r for r in records if r['bbox'][2] > 0 and r['bbox'][3] > 0]
        self._dropped += len(records) - len(usable)
        records = usable
        file_name = image_file(image['coco_url'])
        owner = f'image {image["id"]}'
        return dict(
            img_path=self.image_path(file_name),
            img_id=image['id'],
            file_name=file_name,
            height=image['height'],
            width=image['width'],
            boxes=xywh_to_xyxy([r['bbox'] for r in records]),
            labels=self._labels([r['category_id'] for r in records], owner),
            crowd=np.zeros(len(records), dtype=bool),
            segmentations=[r['segmentation'] for r in records],
            neg_labels=self._labels(image['neg_category_ids'], owner),
            not_exhaustive_labels=self._labels(image['not_exhaustive_category_ids'], owner))

    def _labels(self, category_ids: list[int], owner: str) -> np.ndarray:
        unknown = [c for c in category_ids if c not in self._label_of]
        if unknown:
            raise ValueError(f'{self.ann_file}: {owner} names unknown category {unknown[0]}')
        return np.array([self._label_of[c] for c in category_ids], dtype=np.int64)

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """See :meth:`PerceptionDataset.get_data_info`."""
        item = super().get_data_info(idx)
        if self.listed == 'verified':
            self._restrict(item)
        return item

    @staticmethod
    def _restrict(item: dict[str, Any]) -> None:
        """Keep the names for which the image's annotation is complete."""
        annotation = item['annotation']
        known = _verified(annotation.labels, item)
        place = np.full(len(annotation.vocabulary), -1, dtype=np.int64)
        place[known] = np.arange(len(known))
        annotation.labels = place[annotation.labels]
        annotation.crowd = annotation.crowd | (annotation.labels < 0)
        annotation.vocabulary = tuple(annotation.vocabulary[k] for k in known)
        annotation.vocabulary_is_thing = annotation.vocabulary_is_thing[known]


def _verified(labels: np.ndarray, item: dict[str, Any]) -> np.ndarray:
    """Labels for which an image's annotation is complete, ascending."""
    known = np.union1d(labels, item['neg_labels'])
    return np.setdiff1d(known, item['not_exhaustive_labels'])


def _log(path: str, number: int, what: str) -> None:
    if number:
        print_log(f'{Path(path).name}: {number} {what} left out', logger='current')
