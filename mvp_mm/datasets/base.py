# Copyright (c) mvp_mm authors. All rights reserved.
"""Base class of datasets: one item is one image with everything known about it."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import force_full_init

from mvp_mm.datasets.captions import CaptionStore
from mvp_mm.datasets.image_selection import ImageSelection
from mvp_mm.datasets.indexing.box_faults import BadBoxes, report_bad_boxes
from mvp_mm.datasets.indexing.coco import CocoIndex
from mvp_mm.datasets.indexing.lines import LineIndex
from mvp_mm.datasets.item_contract import check_boxes, check_items
from mvp_mm.datasets.tolerant import TolerantDataset
from mvp_mm.registry import TASKS, TRANSFORMS
from mvp_mm.structures import ImageAnnotation, Referral
from mvp_mm.utils.faults import Faults
from mvp_mm.utils.files import check_annotation_file, join_root

Index = CocoIndex | LineIndex


class PerceptionDataset(TolerantDataset):
    """Serves images with their annotations and the tasks that ask about them.

    A dataset of one's own overrides :meth:`load_items`, which returns a list of dicts, one per
    image, kept in memory and checked once; only the first three keys are needed:

    - ``img_path``: path of the image; :meth:`image_path` makes it of a file name.
    - ``img_id``: whole number or text, unique; metrics and saved predictions name images by it.
    - ``file_name``: the image's name below ``data_prefix['img']``, by which captions are found.
    - ``height``, ``width``: size in pixels; without them, what the image file has counts.
    - ``boxes``: (n, 4) float32, x1, y1, x2, y2 in pixels. Without it the item has no objects.
    - ``labels``: (n,) whole numbers, positions in the class names of :meth:`set_classes`, -1 for
      an object without a class; -1 for all by default.
    - ``crowd``: (n,) bool, regions that are neither targets nor background; none by default.
    - ``referrals``: list of :class:`Referral` or tuples ``(sentence, targets[, ref_id, sent_id,
      kind])``, ``targets`` being a list of positions in ``boxes``, empty where none is meant.
    - ``captions``: list of texts. ``caption_spans``: list of ``(phrase, targets)``, for grounding.
    - One source of masks, or none (tasks then train on boxes, the segmenting ones too):
      ``segmentations``, n lists of polygons or dicts of run lengths as in COCO, with ``ann_ids``
      for messages; or ``panoptic_path`` with ``segment_ids`` (n,).

    Other keys reach the pipeline as they are. A dataset without class names needs no
    :meth:`set_classes`; one without captions answers without (``response='auto'``).

    A reader of files of any size overrides :meth:`open_index` and :meth:`indexed_item` instead:
    items are then made one at a time, by code that vouches for them, and the dataset holds none.
    :meth:`get_data_info` adds ``annotation`` (:class:`ImageAnnotation`), ``tasks`` and
    ``apply_exif``. Boxes that cannot be used are an error in evaluation; in training they (of
    :meth:`load_items`: their images) are left out, counted and logged, an error above
    ``max_bad_share``.

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
        apply_exif: Whether images are turned as their EXIF orientation says, which is what
            viewers show; annotations count pixels in that frame. False where they count the
            stored pixels. Checks follow it.
        index_dir: Folder for indices of large annotation files; see
            :func:`~mvp_mm.datasets.indexing.store.index_folder` for the default.
        faults: Makes what takes the faults of an annotation file; see :class:`Faults`.
        **kwargs: See :class:`~mvp_mm.datasets.tolerant.TolerantDataset`.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If a record or an item is broken, or training images lack captions.
    """

    METAINFO = dict(classes=(), thing_flags=())
    required_prefixes: tuple[str, ...] = ('img',)
    # Ends of file names of images that are known to be missing or broken.
    left_out: tuple[str, ...] = ()
    # Whether a file that is opened as tables has captions itself.
    own_captions = False
    # Whether load_items looks at every record itself, so that its items need no second check.
    checks_items_itself = False

    def __init__(self,
                 ann_file: str,
                 data_prefix: dict[str, str],
                 tasks: Sequence[dict | Any] = (),
                 caption_store: str | None = None,
                 exclude_refs: Sequence[str] = (),
                 pipeline: Sequence[dict | Callable] = (),
                 apply_exif: bool = True,
                 index_dir: str | None = None,
                 faults: Callable[[str], Faults] = Faults,
                 **kwargs: Any) -> None:
        self.tasks = [TASKS.build(task) if isinstance(task, dict) else task for task in tasks]
        self.caption_store = caption_store
        self.exclude_refs = tuple(exclude_refs)
        self.apply_exif = apply_exif
        self.index_dir = index_dir
        self.faults_of = faults
        self._store: CaptionStore | None = None
        self._index: Index | None = None
        self._rows = np.zeros(0, dtype=np.int64)
        self._vocabulary: tuple[str, ...] = ()
        self._is_thing = np.zeros(0, dtype=bool)
        # Built here, so that transforms are found without a default scope.
        built = [TRANSFORMS.build(t) if isinstance(t, dict) else t for t in pipeline]
        super().__init__(ann_file=ann_file, data_prefix=data_prefix, pipeline=built, **kwargs)

    def _path(self, path: str) -> str:
        """A path of the config, joined to the data root if it is relative."""
        return join_root(self.data_root or '', path)

    def _join_prefix(self) -> None:
        super()._join_prefix()
        check_annotation_file(self.ann_file)
        for key in self.required_prefixes:
            if key not in self.data_prefix:
                raise ValueError(f"{type(self).__name__} needs data_prefix['{key}']")
        for key, folder in self.data_prefix.items():
            if not Path(folder).is_dir():
                raise FileNotFoundError(f"Folder {folder}, data_prefix['{key}'], does not exist")

    def load_items(self) -> list[dict[str, Any]]:
        """Read the annotation file into items (see the class) and set the class names, if any."""
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
        if self.caption_store is not None:
            self._store = CaptionStore(self._path(self.caption_store), index_dir=self.index_dir)
        self._index = index = self.open_index()
        if index is None:
            super().full_init()
            return
        faults = self.faults_of(index.path)
        report_bad_boxes(self.bad_boxes(index), faults, self.test_mode, self.max_bad_share)
        index.report_to(faults)
        self._rows = self._select(
            self.used_rows(index), index.file_names, lambda: self._image_ids(index),
            self.own_captions, self.own_captions)
        if self._indices is not None:
            self._rows = self._rows[_slice(self._indices)]
        self._fully_initialized = True
        self._count_anew()

    @staticmethod
    def _image_ids(index: Index) -> list[Any]:
        if not isinstance(index, CocoIndex):
            raise ValueError(f'{index.path}: its images have no ids, so exclude_refs cannot '
                             'find them')
        return index.image_ids().tolist()

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read the items, check them and leave out excluded images."""
        items = self.load_items()
        if not self.checks_items_itself:
            owner = f'{type(self).__name__} {self.ann_file}'
            items = check_items(items, owner, len(self._vocabulary), self.faults_of(self.ann_file))
            check_boxes(items, owner, self.allowed_bad)
        own = {item['file_name'] for item in items if item.get('captions')}
        rows = self._select(
            np.arange(len(items)), lambda: [item['file_name'] for item in items],
            lambda: [item['img_id'] for item in items], own.__contains__, bool(own))
        return [items[row] for row in rows]

    def _select(self, rows: np.ndarray, names: Callable[[], Iterable[str]],
                ids: Callable[[], Iterable[Any]], own_caption: Callable[[str], Any] | bool,
                captioned: bool) -> np.ndarray:
        """The rows that are used; see :class:`ImageSelection`."""
        chosen = ImageSelection(self.ann_file, rows, names, self.faults_of(self.ann_file))
        chosen.leave_out_held_out(ids, [self._path(path) for path in self.exclude_refs])
        chosen.leave_out_names(self.left_out)
        if not self.test_mode:
            has_caption = self._store.has if self._store else own_caption
            chosen.require_captions(self.tasks, has_caption, captioned or self._store is not None)
        return chosen.rows

    def set_classes(self, names: Sequence[str], is_thing: Sequence[bool]) -> None:
        """Record the vocabulary in the meta information.

        Raises:
            ValueError: If a name is no text, shows nothing, or cannot be told from another.
        """
        self._vocabulary = tuple(self.faults_of(self.ann_file).classes(names))
        self._is_thing = np.asarray(is_thing, dtype=bool)
        self._metainfo.update(
            classes=self._vocabulary, thing_flags=tuple(self._is_thing.tolist()))

    @property
    def source(self) -> str:
        """File or folder that messages name the dataset by."""
        return self.ann_file or self.data_prefix['img']

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
        return dict(self.indexed_item(self._index, int(self._rows[idx])),
                    sample_idx=idx if idx >= 0 else len(self) + idx)

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """The item, with ``annotation`` and ``tasks`` for the pipeline."""
        item = self.compact_item(idx)
        if self._store is not None:
            item['captions'] = self._store.get(item['file_name'])
        item['apply_exif'] = self.apply_exif
        item.setdefault('boxes', np.zeros((0, 4), dtype=np.float32))
        number = len(item['boxes'])
        item['annotation'] = ImageAnnotation(
            source=f'{type(self).__name__} {self.ann_file}, {item["file_name"]}',
            vocabulary=self._vocabulary, vocabulary_is_thing=self._is_thing,
            labels=item.pop('labels', np.full(number, -1, dtype=np.int64)),
            crowd=item.pop('crowd', np.zeros(number, dtype=bool)),
            referrals=[fields if isinstance(fields, Referral) else Referral(*fields)
                       for fields in item.pop('referrals', ())],
            captions=item.pop('captions', []), caption_spans=item.pop('caption_spans', []))
        item['tasks'] = self.tasks
        return item


def _slice(indices: int | Sequence[int]) -> slice | np.ndarray:
    """mmengine's meaning of ``indices``: a number of first or last items, or positions."""
    if isinstance(indices, int):
        return slice(indices) if indices >= 0 else slice(indices, None)
    return np.asarray(indices, dtype=np.int64)
