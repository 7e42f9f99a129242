# Copyright (c) mvp_mm authors. All rights reserved.
"""Packs captions into flat arrays in files, which processes memory-map and share."""
from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mvp_mm.datasets.captions.keys import bare_name, caption_key, keys_agree

# Changes whenever the files below do.
INDEX_FORMAT = 2
_NUMBERS = ('key_hashes', 'key_images', 'name_hashes', 'name_images', 'key_ends', 'rows',
            'text_ends')
_BYTES = ('keys', 'texts')


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), 'little')


class IndexWriter:
    """Packs captions image by image.

    Args:
        folder: Folder for the files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = ExitStack()
        self._sinks: dict[str, BinaryIO] = {
            name: self._files.enter_context(open(folder / f'{name}.bin', 'wb'))  # noqa: SIM115
            for name in _BYTES}
        self._key_hashes, self._name_hashes = array('Q'), array('Q')
        self._key_ends, self._rows, self._text_ends = array('q', [0]), array('q', [0]), array(
            'q', [0])

    def add(self, file_name: str, texts: Sequence[str]) -> None:
        """Add an image, which may have no caption."""
        key = caption_key(file_name)
        self._key_hashes.append(_hash(key))
        self._name_hashes.append(_hash(bare_name(key)))
        self._key_ends.append(self._key_ends[-1] + self._sinks['keys'].write(key.encode()))
        for text in texts:
            written = self._sinks['texts'].write(text.encode('utf-8', 'surrogatepass'))
            self._text_ends.append(self._text_ends[-1] + written)
        self._rows.append(len(self._text_ends) - 1)

    def finish(self) -> None:
        """Sort, and write what is still in memory.

        Raises:
            ValueError: If two images have one key.
        """
        self._files.close()
        columns = dict(key_ends=np.array(self._key_ends), rows=np.array(self._rows),
                       text_ends=np.array(self._text_ends))
        for kind, hashes in (('key', self._key_hashes), ('name', self._name_hashes)):
            values = np.array(hashes, dtype=np.uint64)
            order = np.argsort(values, kind='stable')
            columns[f'{kind}_hashes'] = values[order]
            columns[f'{kind}_images'] = order.astype(np.int32)
        for name in _NUMBERS:
            np.save(self.folder / f'{name}.npy', columns[name])
        CaptionIndex(self.folder).check_keys()


def _map_bytes(path: Path) -> np.ndarray:
    # An empty file cannot be mapped.
    size = path.stat().st_size
    return np.asarray(np.memmap(path, np.uint8, 'r')) if size else np.zeros(0, np.uint8)


class CaptionIndex:
    """Captions by image, without a Python object for any of them.

    Args:
        folder: Files that :class:`IndexWriter` wrote: sorted hashes of keys and bare names with
            the images they belong to, and ends of keys, captions of images and texts.
    """

    def __init__(self, folder: Path) -> None:
        # As plain arrays: slicing a memmap costs ten times as much.
        self._columns = {
            name: np.asarray(np.load(folder / f'{name}.npy', mmap_mode='r')) for name in _NUMBERS}
        self._columns['keys'] = _map_bytes(folder / 'keys.bin')
        # Read, not mapped: of a mapped file every page around a caption counts as the process's.
        self._texts = open(folder / 'texts.bin', 'rb', buffering=0)  # noqa: SIM115

    def __len__(self) -> int:
        return len(self._columns['rows']) - 1

    def key(self, number: int) -> str:
        """Key of an image."""
        start, end = self._columns['key_ends'][number:number + 2]
        return bytes(self._columns['keys'][start:end]).decode()

    def captioned(self, number: int) -> bool:
        """Whether an image has a caption."""
        return bool(self._columns['rows'][number + 1] > self._columns['rows'][number])

    def texts(self, number: int) -> list[str]:
        """Captions of an image."""
        first, last = self._columns['rows'][number:number + 2]
        ends = self._columns['text_ends'][first:last + 1].tolist()
        start = ends[0]
        data = os.pread(self._texts.fileno(), ends[-1] - start, start)
        return [data[one - start:other - start].decode('utf-8', 'surrogatepass')
                for one, other in zip(ends, ends[1:])]  # noqa: B905

    def find(self, file_name: str) -> int | None:
        """Number of an image, None where it is not known.

        An equal key wins; otherwise the only key that agrees (see :func:`keys_agree`).

        Raises:
            ValueError: If several keys agree.
        """
        key = caption_key(file_name)
        for number in self._hashed('key', key):
            if self.key(number) == key:
                return number
        agreeing = [number for number in self._hashed('name', bare_name(key))
                    if keys_agree(self.key(number), key)]
        if len(agreeing) > 1:
            raise ValueError(f'{file_name} may be {self.key(agreeing[0])} or '
                             f'{self.key(agreeing[1])}')
        return agreeing[0] if agreeing else None

    def _hashed(self, kind: str, text: str) -> list[int]:
        hashes, value = self._columns[f'{kind}_hashes'], np.uint64(_hash(text))
        first = int(np.searchsorted(hashes, value))
        last = first
        while last < len(hashes) and hashes[last] == value:
            last += 1
        return self._columns[f'{kind}_images'][first:last].tolist()

    def check_keys(self) -> None:
        """Refuse an index in which two images have one key.

        Raises:
            ValueError: Naming the key.
        """
        hashes, images = self._columns['key_hashes'], self._columns['key_images']
        for place in np.flatnonzero(hashes[1:] == hashes[:-1]):
            one, other = (self.key(int(images[place + step])) for step in (0, 1))
            if one == other:
                raise ValueError(f'two images are named {one}')
