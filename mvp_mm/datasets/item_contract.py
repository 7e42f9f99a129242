# Copyright (c) mvp_mm authors. All rights reserved.
"""Checks the items that a custom dataset's ``load_items`` returns, once per file.

:class:`~mvp_mm.datasets.base.PerceptionDataset` documents the keys.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from numbers import Integral
from typing import Any, NoReturn

import numpy as np

from mvp_mm.datasets.indexing.box_faults import BOX_FAULTS, corner_faults
from mvp_mm.structures import Referral
from mvp_mm.utils.faults import Faults
from mvp_mm.utils.texts import is_text, shown

_REQUIRED = {
    'img_path': "the image's path, such as self.image_path(file_name)",
    'img_id': "the image's id, a whole number or a text",
    'file_name': "the image's name below data_prefix['img']",
}
_KEYS = (*_REQUIRED, 'height', 'width', 'boxes', 'labels', 'crowd', 'referrals', 'captions',
         'caption_spans', 'panoptic_path', 'segment_ids', 'segmentations', 'ann_ids')
_REFERRAL = ('Referral(sentence, targets) or a tuple (sentence, targets), which may go on with '
             'ref_id, sent_id, kind')
_TARGETS = "a list of positions in the item's boxes"
_EXAMPLES = 3


def check_items(items: Any, owner: str, num_classes: int,
                faults: Faults | None = None) -> list[dict[str, Any]]:
    """Refuse items that readers, transforms or tasks could not use.

    What takes files to find out is left to reading: images, masks, and boxes' values
    (:func:`check_boxes`).

    Args:
        items: What ``load_items`` returned.
        owner: Class and annotation file, for messages.
        num_classes: Number of class names that were set.
        faults: Where these collect, one fault is recorded per item that cannot be used.

    Returns:
        The items that can be used.

    Raises:
        ValueError: Naming class, item and key, at the first fault if they are not collected.
    """
    if not isinstance(items, list):
        raise ValueError(f'{owner}: load_items must return a list of dicts, one per image, got '
                         f'{_type(items)}')
    sound = []
    for number, item in enumerate(items):
        try:
            _Item(item, number, owner).check(num_classes)
        except ValueError as error:
            if faults is None or not faults.collects:
                raise
            faults('item of load_items', f'item {number}', str(error).removeprefix(f'{owner}: '))
        else:
            sound.append(item)
    return sound


def check_boxes(items: Sequence[dict[str, Any]], owner: str,
                allowed: Callable[[int], float]) -> None:
    """Refuse items of which too many boxes have no area inside their image.

    Args:
        items: Items that :func:`check_items` has accepted.
        owner: Class and annotation file, for messages.
        allowed: How many of a number of boxes may be bad.

    Raises:
        ValueError: With examples.
    """
    owners = [item for item in items if len(item.get('boxes', ()))]
    if not owners:
        return
    boxes = np.concatenate([item['boxes'] for item in owners])
    counts = [len(item['boxes']) for item in owners]
    sides = [(item.get('height', np.inf), item.get('width', np.inf)) for item in owners]
    heights, widths = np.repeat(np.array(sides, dtype=np.float64), counts, axis=0).T
    reasons = corner_faults(boxes, heights, widths)
    bad = np.flatnonzero(reasons)
    if len(bad) <= allowed(len(boxes)):
        return
    image = np.repeat(np.arange(len(owners)), counts)
    told = '; '.join(f'image {owners[image[k]]["img_id"]}: box {boxes[k].tolist()}: '
                     f'{BOX_FAULTS[reasons[k]]}' for k in bad[:_EXAMPLES])
    if (reasons == BOX_FAULTS.index('negative size')).any():
        told += '. Boxes are x1, y1, x2, y2: were these x, y, width, height?'
    raise ValueError(f'{owner}: {len(bad)} of {len(boxes)} boxes cannot be used: {told}')


def _type(value: Any) -> str:
    return type(value).__name__


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


class _Item:
    """One item with its name in messages."""

    def __init__(self, item: Any, number: int, owner: str) -> None:
        self.item = item
        self.where = f'{owner}: item {number}'
        if not isinstance(item, dict):
            raise ValueError(f'{self.where} of load_items must be a dict, got {_type(item)}')
        if 'img_id' in item:
            self.where += f' (img_id {shown(item["img_id"])})'

    def fail(self, message: str) -> NoReturn:
        raise ValueError(f'{self.where} of load_items: {message}')

    def check(self, num_classes: int) -> None:
        self._keys()
        self._image()
        self._objects(num_classes)
        self._masks()
        self._texts()

    def _keys(self) -> None:
        for key, meaning in _REQUIRED.items():
            if key not in self.item:
                self.fail(f'lacks {key!r}, {meaning}')
        for key in self.item.keys() - set(_KEYS):
            close = get_close_matches(str(key), _KEYS, 1, 0.8)
            if close:
                self.fail(f'unknown key {key!r}, did you mean {close[0]!r}?')

    def _image(self) -> None:
        for key in ('img_path', 'file_name'):
            if not is_text(self.item[key]):
                self.fail(f'{key!r} must be a text, got {shown(self.item[key])}')
        if not _is_whole(self.item['img_id']) and not is_text(self.item['img_id']):
            self.fail("'img_id' must be a whole number or a text, got "
                      f"{shown(self.item['img_id'])}")
        sides = [key for key in ('height', 'width') if key in self.item]
        if len(sides) == 1:
            self.fail(f"has {sides[0]!r} alone: give 'height' and 'width', or neither where the "
                      'file does not tell')
        for key in sides:
            if not _is_whole(self.item[key]) or self.item[key] < 1:
                self.fail(f'{key!r} must be a whole number of pixels, got {shown(self.item[key])}')

    def _array(self, key: str, kinds: str, wanted: str, shape: tuple[int, ...]) -> np.ndarray:
        """An array of the item; -1 in the shape stands for any number."""
        value = self.item[key]
        if not isinstance(value, np.ndarray):
            self.fail(f'{key!r} must be {wanted}, got {_type(value)}')
        fits = len(value.shape) == len(shape) and all(
            need in (-1, got) for need, got in zip(shape, value.shape, strict=True))
        if value.dtype.kind not in kinds or not fits:
            self.fail(f'{key!r} must be {wanted}, got {value.dtype} of shape {value.shape}')
        return value

    def _objects(self, num_classes: int) -> None:
        self.number = 0
        if 'boxes' in self.item:
            wanted = 'a float32 array (n, 4) of x1, y1, x2, y2'
            boxes = self._array('boxes', 'f', wanted, (-1, 4))
            if boxes.dtype != np.float32:
                self.fail(f"'boxes' must be {wanted}, got {boxes.dtype}")
            self.number = len(boxes)
        beside = f'for the {self.number} boxes'
        if 'labels' in self.item:
            labels = self._array('labels', 'iu', f'a whole-number array ({self.number},) {beside}',
                                 (self.number,))
            if len(labels) and not -1 <= labels.min() <= labels.max() < num_classes:
                self.fail(f"'labels' must be -1 or positions in the {num_classes} class names that "
                          f'self.set_classes was given, got {labels.tolist()}')
        if 'crowd' in self.item:
            self._array('crowd', 'b', f'a bool array ({self.number},) {beside}', (self.number,))

    def _masks(self) -> None:
        item = self.item
        if 'panoptic_path' in item and 'segmentations' in item:
            self.fail("has masks twice: give 'panoptic_path' or 'segmentations'")
        if ('panoptic_path' in item) != ('segment_ids' in item):
            self.fail("'panoptic_path' and 'segment_ids' belong together")
        if 'panoptic_path' in item:
            if not is_text(item['panoptic_path']):
                self.fail(f"'panoptic_path' must be a text, got {shown(item['panoptic_path'])}")
            self._array('segment_ids', 'iu', f'a whole-number array ({self.number},) of the '
                        "boxes' segments", (self.number,))
        for key in ('segmentations', 'ann_ids'):
            if key in item and (not isinstance(item[key], Sequence | np.ndarray)
                                or len(item[key]) != self.number):
                self.fail(f'{key!r} must be a list with one entry for each of the {self.number} '
                          f'boxes, got {_type(item[key])}')
        for place, mask in enumerate(item.get('segmentations', ())):
            if not isinstance(mask, list | dict):
                self.fail(f"'segmentations' entry {place} must be a list of polygons or a dict of "
                          f'run lengths, as in COCO, got {_type(mask)}')

    def _texts(self) -> None:
        for key in ('referrals', 'captions', 'caption_spans'):
            if not isinstance(self.item.get(key, []), list):
                self.fail(f'{key!r} must be a list, got {_type(self.item[key])}')
        for place, referral in enumerate(self.item.get('referrals', ())):
            self._referral(referral, f"'referrals' entry {place}")
        for place, caption in enumerate(self.item.get('captions', ())):
            if not is_text(caption):
                self.fail(f"'captions' entry {place} must be a text, got {shown(caption)}")
        for place, span in enumerate(self.item.get('caption_spans', ())):
            name = f"'caption_spans' entry {place}"
            if not isinstance(span, tuple) or len(span) != 2 or not is_text(span[0]):
                self.fail(f'{name} must be a tuple (phrase, targets), got {shown(span)}')
            self._targets(span[1], name)

    def _referral(self, referral: Any, name: str) -> None:
        if isinstance(referral, tuple) and 2 <= len(referral) <= 5:
            sentence, targets = referral[:2]
        elif isinstance(referral, Referral):
            sentence, targets = referral.sentence, referral.targets
        else:
            self.fail(f'{name} must be {_REFERRAL}; got {shown(referral)}')
        if not is_text(sentence):
            self.fail(f'{name} must begin with a sentence, got {shown(sentence)}')
        self._targets(targets, name)

    def _targets(self, targets: Any, name: str) -> None:
        if not isinstance(targets, list) or not all(map(_is_whole, targets)):
            self.fail(f'{name}: targets must be {_TARGETS}, got {shown(targets)}')
        if len(set(targets)) != len(targets) or not all(
                0 <= target < self.number for target in targets):
            self.fail(f'{name}: targets must be {_TARGETS}, each once, of which there are '
                      f'{self.number}; got {targets}')
