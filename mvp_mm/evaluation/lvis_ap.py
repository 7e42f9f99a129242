# Copyright (c) mvp_mm authors. All rights reserved.
"""LVIS average precision, "fixed" (Dave et al., 2021, arXiv 2102.01066)."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval

from mvp_mm.datasets.vocabulary.class_lists import spaced
from mvp_mm.evaluation.base import NothingToMeasureError, PerceptionMetric, require
from mvp_mm.evaluation.coco_ap import found_things
from mvp_mm.evaluation.coco_eval import precision_of
from mvp_mm.registry import METRICS
from mvp_mm.utils.faults import Faults
from mvp_mm.utils.files import load_json
from mvp_mm.utils.masks import to_rle
from mvp_mm.utils.records import (
    ANYTHING,
    AREA,
    CLASS_NAME,
    FINITE_BOX,
    ID,
    SIDE,
    Field,
    RecordFormat,
    list_of,
)

_NO_LIMIT = 10**9
_FREQUENCIES = ('r', 'c', 'f')
# What the metric needs of the file, beside what reading needs.
CATEGORY = RecordFormat('category', id=ID, name=CLASS_NAME, frequency=Field(
    lambda value: value in _FREQUENCIES, f'one of {_FREQUENCIES}'))
IMAGE = RecordFormat('image', id=ID, height=SIDE, width=SIDE, neg_category_ids=list_of(ID),
                     not_exhaustive_category_ids=list_of(ID))
ANNOTATION = RecordFormat('annotation', id=ID, image_id=ID, category_id=ID, bbox=FINITE_BOX,
                          segmentation=ANYTHING, area=AREA)


class _FederatedEval(COCOeval):
    """COCO's matching, where an image may be annotated with some objects of a class only."""

    def evaluateImg(self, imgId: int, catId: int, aRng: Sequence[float],  # noqa: N802, N803
                    maxDet: int) -> dict[str, Any] | None:  # noqa: N803
        result = super().evaluateImg(imgId, catId, aRng, maxDet)
        if result is not None and self.cocoGt.imgs[imgId]['not_exhaustive']:
            result['dtIgnore'] |= result['dtMatches'] == 0
        return result


@METRICS.register_module()
class LvisAPMetric(PerceptionMetric):
    """AP over LVIS's classes by the rules of lvis-api, with "fixed" limits.

    No limit on the predictions of an image; of each class the best 10 000 of the whole data set
    count. In an image only the classes are scored that it shows or surely does not show
    (``neg_category_ids``); where a class is not exhaustively annotated
    (``not_exhaustive_category_ids``), predictions without a match are not counted as wrong.

    The ground truth is the annotation file's. Every image of it must have been asked about, in
    one list or in several.

    Args:
        ann_file: The annotation file, with ``frequency`` of each category; by default that of the
            data set, which :class:`LvisDataset` tells.
        iou_types: Which of ``'bbox'`` and ``'segm'``.
        max_per_class: Most predictions of a class.
        **kwargs: As for :class:`mmengine.evaluator.BaseMetric`.

    Reports ``lvis/bbox_AP``, ``bbox_AP50``, ``bbox_AP75``, ``bbox_APr``, ``bbox_APc``,
    ``bbox_APf`` (rare, common, frequent classes) and the same for ``segm``.

    Raises:
        ValueError: If an IoU type is unknown, ``max_per_class`` is not positive, or, when the
            metric meets its data set, no annotation file is known.
        FileNotFoundError: If the annotation file does not exist, at the same time.
    """

    default_prefix = 'lvis'

    def __init__(self, ann_file: str | None = None, iou_types: Sequence[str] = ('bbox', 'segm'),
                 max_per_class: int = 10000, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not iou_types or not set(iou_types) <= {'bbox', 'segm'}:
            raise ValueError(f"iou_types must be among 'bbox' and 'segm', got {iou_types!r}")
        if max_per_class < 1:
            raise ValueError(f'max_per_class must be positive, got {max_per_class}')
        self.ann_file = ann_file
        self.iou_types = tuple(iou_types)
        self.max_per_class = max_per_class

    @property
    def dataset_meta(self) -> dict[str, Any] | None:
        """Meta information of the data set."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict[str, Any] | None) -> None:
        # This is set before the first image is asked: what is missing is told before hours pass.
        self._dataset_meta = meta
        if not Path(self._truth_file()).is_file():
            raise FileNotFoundError(f'LvisAPMetric: {self._truth_file()} does not exist')

    def _truth_file(self) -> str:
        path = self.ann_file or (self.dataset_meta or {}).get('ann_file')
        if not path:
            raise ValueError('LvisAPMetric: the data set does not tell its annotation file, as '
                             'LvisDataset does; give the metric an ann_file')
        return path

    def measure(self, sample: Mapping[str, Any]) -> tuple[Any, list[dict[str, Any]]]:
        """The image's id and its predictions.

        Raises:
            KeyError: If boxes, scores, labels or masks are missing.
            ValueError: If they do not fit together.
        """
        return require(sample, 'img_id'), found_things(sample, 'segm' in self.iou_types)

    def summarize(self, results: list[tuple[Any, list[dict[str, Any]]]]) -> dict[str, float]:
        """Score class by class.

        Raises:
            ValueError: If images or names of predictions and annotation file differ.
            NothingToMeasureError: If no class has an object.
        """
        truth = _Truth(self._truth_file())
        found = self._by_category(results, truth)
        metrics: dict[str, float] = {}
        for iou_type in self.iou_types:
            precision = np.full((10, 101, len(truth.categories)), -1.)
            for column, category in enumerate(truth.categories):
                data, asked = truth.of(category, iou_type == 'segm')
                own = [dict(item, area=_size(item, iou_type)) for item in found[category['id']]
                       if item['image_id'] in asked]
                if data['annotations']:
                    precision[..., column] = precision_of(
                        data, own, iou_type, max_found=_NO_LIMIT, areas=('all',),
                        evaluation=_FederatedEval)[..., 0, 0]
            metrics.update({f'{iou_type}_{name}': value
                            for name, value in _summary(precision, truth.categories).items()})
        if not metrics:
            raise NothingToMeasureError('no object of any class')
        return metrics

    def _by_category(self, results: list[tuple[Any, list[dict[str, Any]]]],
                     truth: _Truth) -> dict[int, list[dict[str, Any]]]:
        """The best predictions of each category id, best first."""
        asked = {image for image, _ in results}
        for what, ids in (('is not in', asked - truth.images.keys()),
                          ('was not predicted, it is in', truth.images.keys() - asked)):
            if ids:
                raise ValueError(f'LvisAPMetric: image {min(ids)} {what} {truth.path} '
                                 f'({len(ids)} such images)')
        ids = {spaced(category['name']): category['id'] for category in truth.categories}
        found = defaultdict(list)
        for image, items in results:
            for item in items:
                if item['name'] not in ids:
                    raise ValueError(f'LvisAPMetric: image {image} has a prediction of '
                                     f'"{item["name"]}", which {truth.path} does not name')
                category = ids[item['name']]
                found[category].append(dict(item, image_id=image, category_id=category))
        for category, items in found.items():
            items.sort(key=lambda item: -item['score'])
            found[category] = [
                dict(item, id=k) for k, item in enumerate(items[:self.max_per_class], start=1)]
        return found


class _Truth:
    """The annotation file, by category.

    Raises:
        ValueError: If a list or a key is missing.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        content = load_json(path)
        for key in ('images', 'annotations', 'categories'):
            if not isinstance(content.get(key), list):
                raise ValueError(f'{path}: no list of {key}')
        faults = Faults(path)
        for place, category in enumerate(content['categories']):
            CATEGORY.accepts(category, faults, place)
        known = {category['id'] for category in content['categories']}
        self.categories = sorted(content['categories'], key=lambda category: category['id'])
        self.images: dict[Any, dict[str, Any]] = {}
        self._images_of = defaultdict(dict)
        self._annotations_of = defaultdict(list)
        for place, image in enumerate(content['images']):
            IMAGE.accepts(image, faults, place)
            self.images[image['id']] = image
            for category in image['neg_category_ids']:
                self._images_of[category][image['id']] = image
        for place, annotation in enumerate(content['annotations']):
            ANNOTATION.accepts(annotation, faults, place)
            category, image = annotation['category_id'], annotation['image_id']
            if image not in self.images:
                faults('unknown image', ANNOTATION.where(annotation),
                       f'names unknown image {image}')
            if category not in known:
                faults('unknown category', ANNOTATION.where(annotation),
                       f'names unknown category {category}')
            self._images_of[category][image] = self.images[image]
            self._annotations_of[category].append(dict(annotation, iscrowd=0))

    def of(self, category: dict[str, Any], with_masks: bool) -> tuple[dict[str, Any], set]:
        """A category's COCO dataset and the images in which it is scored."""
        number = category['id']
        images = [
            dict(id=key, height=image['height'], width=image['width'],
                 not_exhaustive=number in image['not_exhaustive_category_ids'])
            for key, image in self._images_of[number].items()]
        annotations = self._annotations_of[number]
        if with_masks:
            annotations = [dict(a, segmentation=self._rle(a)) for a in annotations]
        data = dict(info={}, images=images, categories=[category], annotations=annotations)
        return data, set(self._images_of[number])

    def _rle(self, annotation: dict[str, Any]) -> dict[str, Any]:
        image = self.images[annotation['image_id']]
        return to_rle(annotation['segmentation'], image['height'], image['width'],
                      f'{self.path} (image {image["id"]}), annotation {annotation["id"]}')


def _size(item: dict[str, Any], iou_type: str) -> float:
    if iou_type == 'bbox':
        return item['bbox'][2] * item['bbox'][3]
    return float(coco_mask.area(item['segmentation']))


def _summary(precision: np.ndarray, categories: list[dict[str, Any]]) -> dict[str, float]:
    """Means over (10, 101, K) precision, in percent, where defined."""
    frequency = np.array([category['frequency'] for category in categories])
    parts = dict(AP=precision, AP50=precision[:1], AP75=precision[5:6])
    parts.update({f'AP{kind}': precision[..., frequency == kind] for kind in _FREQUENCIES})
    return {name: float(part[part > -1].mean() * 100)
            for name, part in parts.items() if (part > -1).any()}
