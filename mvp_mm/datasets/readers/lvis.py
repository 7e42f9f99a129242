# Copyright (c) mvp_mm authors. All rights reserved.
"""LVIS v1: 1203 classes on COCO images, of which each image answers for some."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from mmengine.logging import print_log

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.indexing.coco import CocoIndex
from mvp_mm.datasets.indexing.layout import Images, MaskLayout, Record
from mvp_mm.datasets.readers.coco_instance import masks_of
from mvp_mm.datasets.vocabulary.class_lists import spaced
from mvp_mm.registry import DATASETS
from mvp_mm.utils.faults import Faults
from mvp_mm.utils.records import FILE_NAME, ID, list_of


def image_file(coco_url: str) -> str:
    """Folder and name of an image in COCO 2017's tree: ``val2017/000000397133.jpg``."""
    return '/'.join(PurePosixPath(coco_url).parts[-2:])


def verified_classes(shown: Sequence[int], absent: Sequence[int],
                     in_part: Sequence[int]) -> np.ndarray:
    """Classes for which an image's annotation is complete, ascending.

    Args:
        shown: Classes of its objects.
        absent: Classes that it surely does not show.
        in_part: Classes of which not all objects are annotated.
    """
    return np.setdiff1d(np.union1d(shown, absent), in_part)


class LvisLayout(MaskLayout):
    """Images without ``file_name``, with two lists of category ids."""

    name = 'lvis'
    image = MaskLayout.image.but(
        without=('file_name',), coco_url=FILE_NAME, neg_category_ids=list_of(ID),
        not_exhaustive_category_ids=list_of(ID))
    category = MaskLayout.category.but(id=ID)
    image_records = 'images'

    def file_name(self, image: Record) -> str:
        """See :meth:`CocoLayout.file_name`."""
        return image_file(image['coco_url'])

    def summarize(self, index: Images, faults: Faults) -> Record:
        """``unverified``: rows of images that are complete for no class."""
        ids = np.array([category['id'] for category in index.categories], dtype=np.int64)
        unverified = []
        for row in range(len(index)):
            image, objects = index.image(row)
            record = index.image_record(row)
            absent, in_part = record['neg_category_ids'], record['not_exhaustive_category_ids']
            unknown = np.setdiff1d([*absent, *in_part], ids).tolist()
            if unknown:
                faults('unknown category', f'image {image["id"]}',
                       f'names unknown category {unknown[0]}')
            both = np.intersect1d(ids[objects['label']], absent).tolist()
            if both:
                faults.warn('contradiction', f'image {image["id"]}',
                            f'shows category {both[0]}, which it names absent')
            if not len(verified_classes(ids[objects['label']], absent, in_part)):
                unverified.append(row)
        return dict(unverified=unverified)


@DATASETS.register_module()
class LvisDataset(PerceptionDataset):
    """LVIS v1 instances. Class names are written with spaces.

    The annotation is federated: an image tells which classes it shows (with all their objects, or
    not with all), and which classes it surely does not show; about the others nothing is known.
    Items carry ``neg_labels`` and ``not_exhaustive_labels``. In evaluation the meta information
    names the annotation file, ``ann_file``, which is LVIS's ground truth.

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

    def open_index(self) -> CocoIndex:
        """See :meth:`PerceptionDataset.open_index`."""
        index = CocoIndex(self.ann_file, LvisLayout(), self.index_dir,
                          self.faults_of(self.ann_file))
        self.set_classes([spaced(c['name']) for c in index.categories],
                         [True] * len(index.categories))
        if self.test_mode:
            self._metainfo['ann_file'] = self.ann_file
        self._label_of = {c['id']: k for k, c in enumerate(index.categories)}
        return index

    def used_rows(self, index: CocoIndex) -> np.ndarray:
        """See :meth:`PerceptionDataset.used_rows`."""
        unverified = index.facts['summary']['unverified']
        if self.listed == 'all' or not unverified:
            return np.arange(len(index))
        print_log(f'{Path(self.ann_file).name}: {len(unverified)} images without a verified class '
                  'left out', logger='current')
        return np.setdiff1d(np.arange(len(index)), unverified)

    def indexed_item(self, index: CocoIndex, row: int) -> dict[str, Any]:
        """See :meth:`PerceptionDataset.indexed_item`."""
        record = index.image_record(row)
        return dict(
            super().indexed_item(index, row), **masks_of(index, row),
            neg_labels=self._labels(record['neg_category_ids']),
            not_exhaustive_labels=self._labels(record['not_exhaustive_category_ids']))

    def _labels(self, category_ids: list[int]) -> np.ndarray:
        # Unknown ids were told when the index was made.
        return np.array([self._label_of[c] for c in category_ids if c in self._label_of],
                        dtype=np.int64)

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
        known = verified_classes(
            annotation.labels, item['neg_labels'], item['not_exhaustive_labels'])
        place = np.full(len(annotation.vocabulary), -1, dtype=np.int64)
        place[known] = np.arange(len(known))
        annotation.labels = place[annotation.labels]
        annotation.crowd = annotation.crowd | (annotation.labels < 0)
        annotation.vocabulary = tuple(annotation.vocabulary[k] for k in known)
        annotation.vocabulary_is_thing = annotation.vocabulary_is_thing[known]
