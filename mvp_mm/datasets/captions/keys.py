# Copyright (c) mvp_mm authors. All rights reserved.
"""Normalises image paths into the keys by which captions are found."""
from __future__ import annotations

import re

_COCO_PREFIX = re.compile(r'COCO_(?:train|val|test)201[45]_(?=\d{12}\.)')
_COCO_NAME = re.compile(r'\d{12}\.\w+')
_COCO_FOLDER = re.compile(r'(?:train|val|test|unlabeled)201[457]')


def caption_key(file_name: str) -> str:
    """The store's name of an image: its path, with COCO's names of one image made equal.

    COCO's 2014 and 2017 releases hold the same images in other folders and with another prefix;
    ``train2014/COCO_train2014_000000000009.jpg`` and ``train2017/000000000009.jpg`` both become
    ``000000000009.jpg``. All other folders stay: ``patch0/a.jpg`` and ``patch1/a.jpg`` are two
    images.

    Raises:
        ValueError: If the name is empty or climbs out of its folder.
    """
    parts = [part for part in file_name.split('/') if part not in ('', '.')]
    if not parts or '..' in parts:
        raise ValueError(f'{file_name!r} names no image')
    parts[-1] = _COCO_PREFIX.sub('', parts[-1])
    if len(parts) > 1 and _COCO_NAME.fullmatch(parts[-1]) and _COCO_FOLDER.fullmatch(parts[-2]):
        del parts[:-1]
    return '/'.join(parts)


def bare_name(key: str) -> str:
    """A key without its folders."""
    return key.rpartition('/')[2]


def keys_agree(one: str, other: str) -> bool:
    """Whether two keys may mean one image: the folders that both name are the same.

    ``a.jpg`` agrees with ``patch0/a.jpg``, which agrees with ``train/patch0/a.jpg``;
    ``patch0/a.jpg`` and ``patch1/a.jpg`` do not agree.
    """
    short, long = sorted((one, other), key=len)
    return long == short or long.endswith(f'/{short}')
