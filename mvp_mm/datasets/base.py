# Copyright (c) mvp_mm authors. All rights reserved.
"""What the datasets share: one item is one image with everything known about it."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import force_full_init
from mmengine.logging import print_log

from mvp_mm.datasets.captions import CaptionStore
from mvp_mm.datasets.captions.missing import count_without_caption
from mvp_mm.datasets.indexing.box_faults import BadBoxes, report_bad_boxes
from mvp_mm.datasets.indexing.coco import CocoIndex
from mvp_mm.datasets.indexing.lines import LineIndex
from mvp_mm.datasets.refer_files import all_held_out
from mvp_mm.datasets.tolerant import TolerantDataset
from mvp_mm.registry import TASKS, TRANSFORMS
from mvp_mm.structures import ImageAnnotation, Referral
from mvp_mm.utils.faults import Faults

Index = CocoIndex | LineIndex


class PerceptionDataset(TolerantDataset):
    """Images, annotations, and the tasks that turn them into instructions.

    A stored item is compact: ``img_path``, ``img_id``, ``file_name``, ``height``, ``width`` and,
    where known, ``boxes`` (n, 4) float32 xyxy, ``labels`` (n,), ``crowd`` (n,), ``referrals``
    (argument tuples of :class:`Referral`), ``captions``, ``caption_spans``, and one source of
    masks: ``panoptic_path`` with ``segment_ids`` (n,), or ``segmentations`` (n polygons or RLEs)
    with ``ann_ids``. :meth:`get_data_info` adds ``annotation`` (:class:`ImageAnnotation`) and
    ``tasks``.

    A reader of small files overrides :meth:`load_items`, whose items are kept in memory. A reader
    of files of any size overrides :meth:`open_index` and :meth:`indexed_item`: items are then made
    one at a time and the dataset holds none. Boxes that cannot be used are an error in evaluation;
    in training they are left out, counted and logged, an error above ``max_bad_share``.

    Args:
        ann_file: Annotation file.
        data_prefix: ``img``: folder of the images; other keys as the format needs.
        tasks: Configs of the tasks asked about every image, or built tasks.
        caption_store: Caption file (see :class:`CaptionStore`); its captions take the place of
            the annotation file's own.
        exclude_refs: Files of references, ``refs(*).p`` or gRefCOCO's JSON; images that they use
            outside the ``train`` split are left out of this dataset, so that training does not see
            their test images. Only for datasets whose images have COCO's ids.
        pipeline: Transforms.
        index_dir: Folder for indices of large annotation files; see
            :func:`~mvp_mm.datasets.indexing.store.index_folder` for the default.
        faults: Makes what takes the faults of an annotation file; see :class:`Faults`.
        **kwargs: See :class:`~mvp_mm.datasets.tolerant.TolerantDataset`.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If a record is broken, or a task needs captions that training images lack.
    """

    required_prefixes: tuple[str, ...] = ('img',)
    # Ends of file names of images that are known to be missing or broken.
    left_out: tuple[str, ...] = ()
    # Whether a file that is opened as tables has captions itself.
    own_captions = False

    def __init__(self,
                 ann_file: str,
                 data_prefix: dict[str, str],
                 tasks: Sequence[dict | Any] = (),
                 caption_store: str | None = None,
                 exclude_refs: Sequence[str] = (),
                 pipeline: Sequence[dict | Callable] = (),
                 index_dir: str | None = None,
                 faults: Callable[[str], Faults] = Faults,
                 **kwargs: Any) -> None:
        self.tasks = [TASKS.build(task) if isinstance(task, dict) else task for task in tasks]
        self.caption_store = caption_store
        self.exclude_refs = tuple(exclude_refs)
        self.index_dir = index_dir
        self.faults_of = faults
        self._store: CaptionStore | None = None
        self._index: Index | None = None
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
        for key, folder in self.data_prefix.items():
            if not Path(folder).is_dir():
                raise FileNotFoundError(f"Folder {folder}, data_prefix['{key}'], does not exist")

    def load_items(self) -> list[dict[str, Any]]:
        """Read the annotation file into compact items and set ``classes``/``thing_flags``."""
        raise NotImplementedError(f'{type(self).__name__} must have load_items or open_index')

    def open_index(self) -> Index | None:
        """Open the annotation file as tables and set ``classes``/``thing_flags``.

        Returns:
            The tables, or None where :meth:`load_items` is to be used.
        """
        return None

    def indexed_item(self, index: Index, row: int) -> dict[str, Any]:
        """The compact item of an image of the tables."""
        image, objects = index.image(row)
        return dict(
            image,
            img_path=self.image_path(image['file_name']),
            img_id=image.pop('id'),
            boxes=objects['box'].copy(),
            labels=objects['label'].astype(np.int64),
            crowd=objects['crowd'].copy())

    def used_rows(self, index: Index) -> np.ndarray:
        """Which images of the tables are items, in which order; all of them by default."""
        return np.arange(len(index))

    def bad_boxes(self, index: Index) -> BadBoxes:
        """Boxes that cannot be used, of those that the items need."""
        return index.bad_boxes

    def full_init(self) -> None:
        """Open the annotation file; see :meth:`mmengine.dataset.BaseDataset.full_init`."""
        if self._fully_initialized:
            return
        if self.test_mode:
            # Metrics name the dataset by it.
            self._metainfo['source'] = self.ann_file or self.data_prefix['img']
        if self.caption_store is not None:
            self._store = CaptionStore(self._path(self.caption_store), index_dir=self.index_dir)
        self._index = index = self.open_index()
        if index is None:
            super().full_init()
            return
        faults = self.faults_of(index.path)
        report_bad_boxes(self.bad_boxes(index), faults, self.test_mode, self.max_bad_share)
        index.report_to(faults)
        self._rows = self._kept_rows(index, self.used_rows(index))
        self._check_captions(index.file_names(), self._rows, lambda name: self.own_captions)
        if self._indices is not None:
            self._rows = self._rows[_slice(self._indices)]
        self._fully_initialized = True
        self._count_anew()

    def _kept_rows(self, index: Index, rows: np.ndarray) -> np.ndarray:
        """Rows without the images that are held out or known to be bad."""
        if self.exclude_refs:
            if not isinstance(index, CocoIndex):
                raise ValueError(f'{index.path}: its images have no ids, so exclude_refs cannot '
                                 'find them')
            out = np.isin(index.image_ids()[rows], list(self._held_out()))
            self._log_held_out(int(out.sum()), len(rows))
            rows = rows[~out]
        if self.left_out:
            kept = np.array([not name.endswith(self.left_out) for name in index.file_names()],
                            dtype=bool)[rows]
            self._log_left_out(len(rows) - int(kept.sum()))
            rows = rows[kept]
        if not len(rows):
            raise ValueError(f'{self.ann_file}: no image is left')
        return rows

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read the items and leave out excluded images."""
        items = self.load_items()
        if self.exclude_refs:
            held_out = self._held_out()
            kept = [item for item in items if item['img_id'] not in held_out]
            self._log_held_out(len(items) - len(kept), len(items))
            items = kept
        number = len(items)
        items = [item for item in items if not item['file_name'].endswith(self.left_out)]
        self._log_left_out(number - len(items))
        if not items:
            raise ValueError(f'{self.ann_file}: no image is left')
        names = [item['file_name'] for item in items]
        own = {item['file_name'] for item in items if item.get('captions')}
        self._check_captions(names, np.arange(len(items)), own.__contains__)
        return items

    def _log_left_out(self, number: int) -> None:
        if number:
            what = 'images left out that are known to be missing or broken'
            self.faults_of(self.ann_file).note(what, number)
            print_log(f'{Path(self.ann_file).name}: {number} {what}', logger='current')

    def _log_held_out(self, number: int, total: int) -> None:
        files = ', '.join(Path(path).name for path in self.exclude_refs)
        print_log(f'{Path(self.ann_file).name}: {number} of {total} images left out, which {files} '
                  'use outside their training split', logger='current')

    def _held_out(self) -> set[int]:
        return all_held_out(self._path(path) for path in self.exclude_refs)

    def _check_captions(self, names: Iterable[str], rows: np.ndarray,
                        has_caption: Callable[[str], Any]) -> None:
        """Refuse training images without captions where a task needs them."""
        needing = [task.name for task in self.tasks if task.needs_captions]
        if self.test_mode or not needing:
            return
        without, example = count_without_caption(
            names, rows, self._store.has if self._store else has_caption)
        if without:
            raise ValueError(
                f'{self.ann_file}: {without} of {len(rows)} images have no caption (for '
                f'example {example}), which task {needing[0]} needs: give a caption_store '
                "that has them, or set its response='none' or missing_caption='none'")

    def set_classes(self, names: Sequence[str], is_thing: Sequence[bool]) -> None:
        """Record the vocabulary in the meta information.

        Raises:
            ValueError: If a name is no text, shows nothing, or cannot be told from another.
        """
        self._vocabulary = tuple(self.faults_of(self.ann_file).classes(names))
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
        return self._index.file_name(int(self._rows[idx]))

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
            self._rows = self._rows[_slice(indices)]
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
    def compact_item(self, idx: int) -> dict[str, Any]:
        """The item as it is stored, with ``sample_idx``."""
        if self._index is None:
            return super().get_data_info(idx)
        item = self.indexed_item(self._index, int(self._rows[idx]))
        item['sample_idx'] = idx if idx >= 0 else len(self) + idx
        return item

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """The item, with ``annotation`` and ``tasks`` for the pipeline."""
        item = self.compact_item(idx)
        if self._store is not None:
            item['captions'] = self._store.get(item['file_name'])
        item.setdefault('boxes', np.zeros((0, 4), dtype=np.float32))
        number = len(item['boxes'])
        item['annotation'] = ImageAnnotation(
            source=f'{type(self).__name__} {self.ann_file}, {item["file_name"]}',
            vocabulary=self._vocabulary,
            vocabulary_is_thing=self._is_thing,
            labels=item.pop('labels', np.full(number, -1, dtype=np.int64)),
            crowd=item.pop('crowd', np.zeros(number, dtype=bool)),
            referrals=[Referral(*fields) for fields in item.pop('referrals', ())],
            captions=item.pop('captions', []),
            caption_spans=item.pop('caption_spans', []))
        item['tasks'] = self.tasks
        return item


def _slice(indices: int | Sequence[int]) -> slice | np.ndarray:
    """mmengine's meaning of ``indices``: a number of first or last items, or positions."""
    if isinstance(indices, int):
        return slice(indices) if indices >= 0 else slice(indices, None)
    return np.asarray(indices, dtype=np.int64)
