# Copyright (c) mvp_mm authors. All rights reserved.
"""What the datasets share: one item is one image with everything known about it."""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import force_full_init
from mmengine.logging import print_log

from mvp_mm.datasets.bad_samples import TolerantDataset
from mvp_mm.datasets.captions import CaptionStore
from mvp_mm.datasets.files import load_plain_pickle
from mvp_mm.datasets.index_coco import CocoIndex
from mvp_mm.datasets.index_report import check_faults
from mvp_mm.registry import TASKS, TRANSFORMS
from mvp_mm.structures import ImageAnnotation, Referral


class PerceptionDataset(TolerantDataset):
    """Images, annotations, and the tasks that turn them into instructions.

    A stored item is compact: ``img_path``, ``img_id``, ``file_name``, ``height``, ``width`` and,
    where known, ``boxes`` (n, 4) float32 xyxy, ``labels`` (n,), ``crowd`` (n,), ``referrals``
    (argument tuples of :class:`Referral`), ``captions``, ``caption_spans``, and one source of
    masks: ``panoptic_path`` with ``segment_ids`` (n,), or ``segmentations`` (n polygons or RLEs).
    :meth:`get_data_info` adds ``annotation`` (:class:`ImageAnnotation`) and ``tasks``.

    A reader of small files overrides :meth:`load_items`, whose items are kept in memory. A reader
    of files of any size overrides :meth:`open_index` and :meth:`indexed_item`: items are then made
    one at a time and the dataset holds none.

    Args:
        ann_file: Annotation file.
        data_prefix: ``img``: folder of the images; other keys as the format needs.
        tasks: Configs of the tasks asked about every image, or built tasks.
        caption_store: Caption file (see :class:`CaptionStore`); its captions take the place of
            the annotation file's own.
        exclude_refs: REFER files; images that they use outside the ``train`` split are left out
            of this dataset, so that training does not see their test images.
        pipeline: Transforms.
        index_dir: Folder for indices of large annotation files; see
            :func:`~mvp_mm.datasets.index_store.index_folder` for the default.
        **kwargs: See :class:`~mvp_mm.datasets.bad_samples.TolerantDataset`.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If a record is broken, or a task needs captions that training images lack.
    """

    required_prefixes: tuple[str, ...] = ('img',)
    # Ends of file names of images that are known to be missing or broken.
    left_out: tuple[str, ...] = ()

    def __init__(self,
                 ann_file: str,
                 data_prefix: dict[str, str],
                 tasks: Sequence[dict | Any] = (),
                 caption_store: str | None = None,
                 exclude_refs: Sequence[str] = (),
                 pipeline: Sequence[dict | Callable] = (),
                 index_dir: str | None = None,
                 **kwargs: Any) -> None:
        self.tasks = [TASKS.build(task) if isinstance(task, dict) else task for task in tasks]
        self.caption_store = caption_store
        self.exclude_refs = tuple(exclude_refs)
        self.index_dir = index_dir
        self._store: CaptionStore | None = None
        self._index: CocoIndex | None = None
        self._rows = np.zeros(0, dtype=np.int64)
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

    def load_items(self) -> list[dict[str, Any]]:
        """Read the annotation file into compact items and set ``classes``/``thing_flags``."""
        raise NotImplementedError(f'{type(self).__name__} must have load_items or open_index')

    def open_index(self) -> CocoIndex | None:
        """Open the annotation file as tables and set ``classes``/``thing_flags``.

        Returns:
            The tables, or None where :meth:`load_items` is to be used.
        """
        return None

    def indexed_item(self, index: CocoIndex, row: int) -> dict[str, Any]:
        """The compact item of an image of the tables."""
        image, objects = index.image(row)
        return dict(
            image,
            img_path=self.image_path(image['file_name']),
            img_id=image.pop('id'),
            boxes=objects['box'].copy(),
            labels=objects['label'].astype(np.int64),
            crowd=objects['crowd'].copy())

    def full_init(self) -> None:
        """Open the annotation file; see :meth:`mmengine.dataset.BaseDataset.full_init`."""
        if self._fully_initialized:
            return
        if self.caption_store is not None:
            self._store = CaptionStore(
                self._path(self.caption_store), index_dir=self.index_dir)
        self._index = self.open_index()
        if self._index is None:
            super().full_init()
            return
        check_faults(self._index, self.test_mode, self.max_bad_share)
        self._rows = np.arange(len(self._index))
        held_out = self._held_out()
        if held_out:
            self._rows = np.flatnonzero(~np.isin(self._index.image_ids(), list(held_out)))
        if self.left_out:
            names = self._index.file_names()
            kept = np.array([not name.endswith(self.left_out) for name in names], dtype=bool)
            self._rows = self._rows[kept[self._rows]]
            self._log_left_out(len(kept) - int(kept.sum()))
        self._check_captions(self._index.file_names(), self._rows, {})
        if self._indices is not None:
            self._rows = self._rows[self._slice(self._indices)]
        self._fully_initialized = True
        self._count_anew()

    @staticmethod
    def _slice(indices: int | Sequence[int]) -> slice | np.ndarray:
        """mmengine's meaning of ``indices``: a number of first or last items, or positions."""
        if isinstance(indices, int):
            return slice(indices) if indices >= 0 else slice(indices, None)
        return np.asarray(indices, dtype=np.int64)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read the items and leave out excluded images."""
        items = self.load_items()
        held_out = self._held_out()
        if held_out:
            items = [item for item in items if item['img_id'] not in held_out]
        number = len(items)
        items = [item for item in items if not item['file_name'].endswith(self.left_out)]
        self._log_left_out(number - len(items))
        if not items:
            raise ValueError(f'{self.ann_file}: no image is left')
        own = {} if self._store else {
            item['file_name']: True for item in items if item.get('captions')}
        self._check_captions((item['file_name'] for item in items), np.arange(len(items)), own)
        return items

    def _log_left_out(self, number: int) -> None:
        if number:
            print_log(f'{Path(self.ann_file).name}: {number} images left out that are known to be '
                      'missing or broken', logger='current')

    def _held_out(self) -> set[int]:
        """Images that REFER files use outside their training split."""
        return {ref['image_id'] for path in self.exclude_refs
                for ref in load_plain_pickle(self._path(path)) if ref['split'] != 'train'}

    def _check_captions(self, names: Iterable[str], rows: np.ndarray, own: dict[str, bool]) -> None:
        """Refuse training images without captions where a task needs them.

        Args:
            names: File names of all images.
            rows: Positions of those in use, ascending.
            own: Names of images whose annotation file has captions; not asked with a store.
        """
        needing = [task.name for task in self.tasks if task.needs_captions]
        if self.test_mode or not needing:
            return
        used = np.zeros(int(rows.max()) + 1 if len(rows) else 0, dtype=bool)
        used[rows] = True
        has_caption = self._store.has if self._store else own.get
        without, example = 0, ''
        for name, in_use in zip(names, used.tolist(), strict=False):
            if in_use and not has_caption(name):
                without, example = without + 1, example or name
        if without:
            raise ValueError(
                f'{self.ann_file}: {without} of {len(rows)} images have no caption (for '
                f'example {example}), which task {needing[0]} needs: give a caption_store '
                "that has them, or set its response='none' or missing_caption='none'")

    def set_classes(self, names: Sequence[str], is_thing: Sequence[bool]) -> None:
        """Record the vocabulary in the meta information.

        Raises:
            ValueError: If a name is empty or occurs twice.
        """
        if not all(isinstance(name, str) and name.strip() for name in names):
            raise ValueError(f'{self.ann_file}: empty class names in {list(names)}')
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

    @force_full_init
    def file_name(self, idx: int) -> str:
        """The annotation file's name of an item's image; nothing else of the item is made."""
        if self._index is None:
            return super().get_data_info(idx)['file_name']
        return self._index.image(int(self._rows[idx]))[0]['file_name']

    @force_full_init
    def __len__(self) -> int:
        return super().__len__() if self._index is None else len(self._rows)

    def get_subset_(self, indices: int | Sequence[int]) -> None:
        """See :meth:`mmengine.dataset.BaseDataset.get_subset_`."""
        if not self._fully_initialized:
            self.full_init()
        if self._index is None:
            super().get_subset_(indices)
        else:
            self._rows = self._rows[self._slice(indices)]
            self._count_anew()

    def get_subset(self, indices: int | Sequence[int]) -> PerceptionDataset:
        """See :meth:`mmengine.dataset.BaseDataset.get_subset`."""
        if not self._fully_initialized:
            self.full_init()
        if self._index is None:
            return super().get_subset(indices)
        subset = self._copy_without_annotation()
        subset.get_subset_(indices)
        return subset

    @force_full_init
    def get_data_info(self, idx: int) -> dict[str, Any]:
        """The item, with ``annotation`` and ``tasks`` for the pipeline."""
        if self._index is None:
            item = super().get_data_info(idx)
        else:
            item = self.indexed_item(self._index, int(self._rows[idx]))
            item['sample_idx'] = idx if idx >= 0 else len(self) + idx
        if self._store is not None:
            item['captions'] = self._store.get(item['file_name'])
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
