# Copyright (c) mvp_mm authors. All rights reserved.
"""What the datasets share: one item is one image with everything known about it."""
from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset

from mvp_mm.datasets.captions import CaptionStore
from mvp_mm.datasets.files import load_plain_pickle
from mvp_mm.registry import TASKS, TRANSFORMS
from mvp_mm.structures import ImageAnnotation, Referral


class PerceptionDataset(BaseDataset):
    """Images, annotations, and the tasks that turn them into instructions.

    A stored item is compact: ``img_path``, ``img_id``, ``file_name``, ``height``, ``width`` and,
    where known, ``boxes`` (n, 4) float32 xyxy, ``labels`` (n,), ``crowd`` (n,), ``referrals``
    (argument tuples of :class:`Referral`), ``captions``, ``caption_spans``, and one source of
    masks: ``panoptic_path`` with ``segment_ids`` (n,), or ``segmentations`` (n polygons or RLEs).
    :meth:`get_data_info` adds ``annotation`` (:class:`ImageAnnotation`) and ``tasks``.

    Args:
        ann_file: Annotation file.
        data_prefix: ``img``: folder of the images; other keys as the format needs.
        tasks: Configs of the tasks asked about every image, or built tasks.
        caption_store: Caption file (see :class:`CaptionStore`); its captions take the place of
            the annotation file's own.
        exclude_refs: REFER files; images that they use outside the ``train`` split are left out
            of this dataset, so that training does not see their test images.
        pipeline: Transforms.
        **kwargs: See :class:`mmengine.dataset.BaseDataset`.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If a record is broken, or a task needs captions that training images lack.
    """

    required_prefixes: tuple[str, ...] = ('img',)

    def __init__(self,
                 ann_file: str,
                 data_prefix: dict[str, str],
                 tasks: Sequence[dict | Any] = (),
                 caption_store: str | None = None,
                 exclude_refs: Sequence[str] = (),
                 pipeline: Sequence[dict | Callable] = (),
                 **kwargs: Any) -> None:
        self.tasks = [TASKS.build(task) if isinstance(task, dict) else task for task in tasks]
        self.caption_store = caption_store
        self.exclude_refs = tuple(exclude_refs)
        # Built here, so that transforms are found without a default scope.
        built = [TRANSFORMS.build(t) if isinstance(t, dict) else t for t in pipeline]
        super().__init__(ann_file=ann_file, data_prefix=data_prefix, pipeline=built, **kwargs)

    def _path(self, path: str) -> str:
        """A path of the config, joined to the data root if it is relative."""
        return str(Path(self.data_root or '') / path)

    def _join_prefix(self) -> None:
        super()._join_prefix()
        if not Path(self.ann_file).is_file():
            raise FileNotFoundError(f'Annotation file {self.ann_file} does not exist')
        for key in self.required_prefixes:
            if key not in self.data_prefix:
                raise ValueError(f"{type(self).__name__} needs data_prefix['{key}']")
            if not Path(self.data_prefix[key]).is_dir():
                raise FileNotFoundError(f'Folder {self.data_prefix[key]} does not exist')

    @abstractmethod
    def load_items(self) -> list[dict[str, Any]]:
        """Read the annotation file into compact items and set ``classes``/``thing_flags``."""

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read the items, leave out excluded images, add captions."""
        items = self.load_items()
        held_out: set[int] = set()
        for path in self.exclude_refs:
            held_out |= {
                ref['image_id']
                for ref in load_plain_pickle(self._path(path)) if ref['split'] != 'train'
            }
        if held_out:
            items = [item for item in items if item['img_id'] not in held_out]
        if self.caption_store is not None:
            store = CaptionStore(self._path(self.caption_store))
            for item in items:
                item['captions'] = store.get(item['file_name'])
        self._check_captions(items)
        return items

    def _check_captions(self, items: list[dict[str, Any]]) -> None:
        needing = [task.name for task in self.tasks if task.needs_captions]
        if self.test_mode or not needing:
            return
        without = [item['file_name'] for item in items if not item.get('captions')]
        if without:
            raise ValueError(
                f'{self.ann_file}: {len(without)} of {len(items)} images have no caption (for '
                f'example {without[0]}), which task {needing[0]} needs: give a caption_store '
                "that has them, or set its response='none' or missing_caption='none'")

    def set_classes(self, names: Sequence[str], is_thing: Sequence[bool]) -> None:
        """Record the vocabulary in the meta information.

        Raises:
            ValueError: If a name occurs twice.
        """
        repeated = [name for name, count in Counter(names).items() if count > 1]
        if repeated:
            raise ValueError(f'{self.ann_file}: repeated class names {sorted(repeated)}')
        self._vocabulary = tuple(names)
        self._is_thing = np.asarray(is_thing, dtype=bool)
        self._metainfo.update(
            classes=self._vocabulary, thing_flags=tuple(bool(flag) for flag in is_thing))

    def image_path(self, file_name: str) -> str:
        """Path of an image."""
        return str(Path(self.data_prefix['img']) / file_name)

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """The item, with ``annotation`` and ``tasks`` for the pipeline."""
        item = super().get_data_info(idx)
        item.setdefault('boxes', np.zeros((0, 4), dtype=np.float32))
        number = len(item['boxes'])
        item['annotation'] = ImageAnnotation(
            source=f'{type(self).__name__} {item["file_name"]}',
            vocabulary=self._vocabulary,
            vocabulary_is_thing=self._is_thing,
            labels=item.pop('labels', np.full(number, -1, dtype=np.int64)),
            crowd=item.pop('crowd', np.zeros(number, dtype=bool)),
            referrals=[Referral(*fields) for fields in item.pop('referrals', ())],
            captions=item.pop('captions', []),
            caption_spans=item.pop('caption_spans', []))
        item['tasks'] = self.tasks
        return item
