# Copyright (c) mvp_mm authors. All rights reserved.
"""Reads semantic segmentation: one PNG of class values per image (ADE20K, COCO-Stuff, …)."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from PIL import Image, UnidentifiedImageError
from pycocotools import mask as coco_mask

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.transforms import LoadPerceptionAnnotations
from mvp_mm.datasets.vocabulary.class_lists import load_vocabulary
from mvp_mm.registry import DATASETS, TRANSFORMS
from mvp_mm.utils.faults import Faults
from mvp_mm.utils.listings import SuffixListing, read_names
from mvp_mm.utils.texts import named


def read_label_map(path: str) -> np.ndarray:
    """Read a PNG of class values; a palette's indices are the values, not its colours.

    Returns:
        (h, w) integer array.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is no readable image or has several channels.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'Semantic map {path} does not exist')
    try:
        with Image.open(path) as image:
            values = np.array(image)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError,
            Image.DecompressionBombError) as error:
        raise ValueError(f'{path} is not a readable image: {error}') from error
    if values.ndim != 2 or values.dtype.kind not in 'iu':
        raise ValueError(f'{path} must have one channel of class values, it is of mode '
                         f'{image.mode}')
    return values


@DATASETS.register_module()
class SemanticMapDataset(PerceptionDataset):
    """Images with maps of class values; all pixels of a class are one object.

    Maps are read when an item is asked for, since they alone tell which classes are there.
    A pipeline whose answers are scored by :class:`SemanticIoUMetric` loads annotations with
    :class:`LoadSemanticMap`.

    Args:
        ann_file: Text file of one image's name per line, with or without ``img_suffix``; empty
            for all images in the folder, subfolders included.
        vocabulary: Name of a published class list, names of one's own, or a text file of them
            (see :func:`load_vocabulary`).
        stuff: Which of one's own names are stuff: names, or a text file of them; ``()`` for none.
        values: Value of each class in the maps.
        ignore: Values that mean "not annotated"; any other value is an error.
        img_suffix: End of an image's file name, after what it shares with its map; letters of
            any case.
        seg_map_suffix: End of a map's file name; letters of any case.
        data_root: Folder that the other paths are relative to.
        **kwargs: See :class:`PerceptionDataset`; ``data_prefix`` has ``img`` and ``seg``.

    Raises:
        ValueError: If values and classes do not fit together, or no image is found.
    """

    required_prefixes = ('img', 'seg')
    checks_items_itself = True

    def __init__(self, ann_file: str = '', *, vocabulary: str | Sequence[str],
                 values: Sequence[int], ignore: Sequence[int],
                 stuff: str | Sequence[str] | None = None, img_suffix: str = '.jpg',
                 seg_map_suffix: str = '.png', data_root: str | None = '',
                 **kwargs: Any) -> None:
        self.names, self.flags = load_vocabulary(vocabulary, stuff, data_root or '')
        if len(values) != len(self.names) or len({*values, *ignore}) != len(values) + len(ignore):
            raise ValueError(f'vocabulary has {len(self.names)} classes: as many different values '
                             f'are needed, and none of them in ignore; got {list(values)}, ignore '
                             f'{list(ignore)}')
        self.values = np.asarray(values, dtype=np.int64)
        self.ignore = tuple(ignore)
        self.img_suffix = img_suffix
        self.seg_map_suffix = seg_map_suffix
        super().__init__(ann_file, data_root=data_root, **kwargs)

    def _join_prefix(self) -> None:
        if self.ann_file:
            super()._join_prefix()
            return
        BaseDataset._join_prefix(self)
        for key in self.required_prefixes:
            if not Path(self.data_prefix.get(key, '')).is_dir():
                raise FileNotFoundError(f'Folder {self.data_prefix.get(key)} does not exist')

    def image_files(self, faults: Faults) -> list[tuple[str, str]]:
        """Pairs of what image and map have in common of their paths, and the image's file."""
        listing = SuffixListing(self.data_prefix['img'], self.img_suffix)
        if not self.ann_file:
            files, passed = listing.all()
            if passed:
                what = ', '.join(f'{number} {why}' for why, number in passed.items())
                faults.note('files in the folder of images passed over', passed.total())
                print_log(f'{self.data_prefix["img"]}: files passed over: {what}', logger='current')
            return list(files.items())
        pairs = []
        for name in read_names(self.ann_file):
            ending = len(name) - len(self.img_suffix)
            if name[ending:].lower() == self.img_suffix.lower() and (
                    Path(self.data_prefix['img']) / name).is_file():
                pairs.append((name[:ending], name))
            else:
                pairs.append((name, listing.find(name)))
        return pairs

    def load_items(self) -> list[dict[str, Any]]:
        """See :meth:`PerceptionDataset.load_items`."""
        self.set_classes(self.names, self.flags)
        faults = self.faults_of(self.ann_file or self.data_prefix['img'])
        pairs = self.image_files(faults)
        names = [name for name, _ in pairs]
        faults.repeated(names, 'image')
        repeated = [name for name, number in Counter(names).items() if number > 1]
        if repeated and self.test_mode:
            faults('duplicate id', f'image {named(repeated[0])}', 'is listed more than once')
        faults.count('classes', len(self.names))
        faults.count('images', len(names))
        if not names:
            raise ValueError(f'{self.ann_file or self.data_prefix["img"]}: no image '
                             f'*{self.img_suffix}')
        maps = SuffixListing(self.data_prefix['seg'], self.seg_map_suffix)
        return [dict(
            img_path=self.image_path(file),
            img_id=name,
            file_name=file,
            seg_map_path=str(Path(self.data_prefix['seg']) / maps.find(name)))
            for name, file in pairs]

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """See :meth:`PerceptionDataset.get_data_info`; reads the map.

        Raises:
            FileNotFoundError: If there is no map.
            ValueError: If it holds a value that is neither a class nor ignored.
        """
        item = super().get_data_info(idx)
        path = item['seg_map_path']
        segment_map = read_label_map(path)
        labels = self.present(segment_map, path)
        masks = segment_map[..., None] == self.values[labels]
        rles = coco_mask.encode(np.asfortranarray(masks, dtype=np.uint8)) if len(labels) else []
        boxes = coco_mask.toBbox(rles) if rles else np.zeros((0, 4))
        boxes[:, 2:] += boxes[:, :2]
        # The image must have the map's size, also where no class is there.
        item['height'], item['width'] = segment_map.shape
        item.update(boxes=boxes.astype(np.float32), segmentations=rles)
        item['annotation'].labels = labels
        item['annotation'].crowd = np.zeros(len(labels), dtype=bool)
        return item

    def present(self, segment_map: np.ndarray, path: str) -> np.ndarray:
        """Labels of the classes in a map, ascending.

        Raises:
            ValueError: If it holds a value that is neither a class nor ignored.
        """
        found = np.unique(segment_map)
        unknown = np.setdiff1d(found, np.append(self.values, self.ignore))
        if len(unknown):
            raise ValueError(f'{path}: values {unknown.tolist()} are neither classes nor ignored '
                             f'({list(self.ignore)})')
        return np.flatnonzero(np.isin(self.values, found))


@TRANSFORMS.register_module()
class LoadSemanticMap(LoadPerceptionAnnotations):
    """:class:`LoadPerceptionAnnotations` for :class:`SemanticMapDataset`.

    Tells the packing that the masks divide the image, so that evaluation gets them as one map.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Load the annotations."""
        results = super().transform(results)
        results['panoptic_path'] = results['seg_map_path']
        return results
