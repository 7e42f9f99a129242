# Copyright (c) mvp_mm authors. All rights reserved.
"""Reads captions image by image from every layout of files."""
from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from mvp_mm.datasets.captions.keys import caption_key
from mvp_mm.datasets.captions.records import (
    Caption,
    ImageCaptions,
    parse_caption,
    parse_image,
    parse_image_captions,
    read_lines,
)
from mvp_mm.datasets.captions.shards import shards_of
from mvp_mm.utils.files import load_json

DuplicateHandler = Callable[[str, str, str], None]


class CaptionSource:
    """Captions of one file or folder.

    Attributes:
        path: Where it lies.
        captioners: Who wrote, in the order of an image's captions.
        files: Every file that is read.
        refined: Settings of the refiner that has cleaned it already, None if none has.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.captioners: list[str] = []
        self.files: list[Path] = [self.path]
        self.refined: dict[str, Any] | None = None

    def __iter__(self) -> Iterator[ImageCaptions]:
        """Images with their captions, each image once."""
        raise NotImplementedError


def open_source(path: str | Path) -> CaptionSource:
    """Open captions by their layout.

    Raises:
        FileNotFoundError: If there is nothing.
        ValueError: If the layout is none of :class:`ShardedSource`, :class:`MergedSource` and
            :class:`JsonSource`.
    """
    path = Path(path)
    if path.is_dir():
        return ShardedSource(path)
    if not path.is_file():
        raise FileNotFoundError(f'Captions {path} do not exist')
    return MergedSource(path) if path.suffix == '.jsonl' else JsonSource(path)


def manifest_path(merged: str | Path) -> Path:
    """Manifest of a merged or refined file."""
    return Path(f'{merged}.manifest.json')


class MergedSource(CaptionSource):
    """A JSONL file with one line per image, written by the merging or the refining command."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        if not manifest_path(path).is_file():
            raise FileNotFoundError(f'{manifest_path(path)}, which belongs to {path}, does not '
                                    'exist')
        manifest = load_json(manifest_path(path))
        self.captioners = list(manifest.get('captioners', []))
        self.refined = manifest.get('refined')
        self.files.append(manifest_path(path))

    def __iter__(self) -> Iterator[ImageCaptions]:
        """See :meth:`CaptionSource.__iter__`."""
        for line in read_lines(self.path):
            yield parse_image_captions(line.content, f'{self.path}, line {line.number}')


class JsonSource(CaptionSource):
    """Read one JSON file in one of three layouts.

    ``{"captioners": [...], "captions": {file_name: [text, ...]}}``, COCO's captions (``images`` and
    ``annotations``), or LLaVA's chats.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._texts = self._read()

    def __iter__(self) -> Iterator[ImageCaptions]:
        """See :meth:`CaptionSource.__iter__`."""
        for image, texts in self._texts.items():
            if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
                raise ValueError(f'{self.path}: captions of {image} must be a list of strings')
            names = self.captioners
            if len(names) != len(texts):
                names = names[:1] * len(texts) if len(names) == 1 else [''] * len(texts)
            yield ImageCaptions(image, tuple(
                Caption(name, text) for name, text in zip(names, texts, strict=True)))

    def _read(self) -> dict[str, list[str]]:
        content = load_json(self.path, object)
        if isinstance(content, list):
            self.captioners = ['chat']
            return _from_chats(content, self.path)
        if not isinstance(content, dict):
            raise ValueError(f'{self.path}: top level must be a dict or a list, got a '
                             f'{type(content).__name__}')
        if 'captions' in content:
            if not isinstance(content['captions'], dict):
                raise ValueError(f'{self.path}: "captions" must be an object')
            self.captioners = list(content.get('captioners', []))
            return content['captions']
        if 'annotations' in content and 'images' in content:
            self.captioners = ['coco']
            return _from_coco(content, self.path)
        raise ValueError(f'{self.path}: neither a caption store ("captions") nor a COCO captions '
                         f'file ("images", "annotations"), keys are {sorted(content)}')


def _from_coco(content: dict[str, Any], path: Path) -> dict[str, list[str]]:
    names = {image['id']: image['file_name'] for image in content['images']}
    captions: dict[str, list[str]] = {}
    for annotation in content['annotations']:
        image_id = annotation['image_id']
        if image_id not in names:
            raise ValueError(f'{path}: caption {annotation.get("id")} names unknown image '
                             f'{image_id}')
        captions.setdefault(names[image_id], []).append(annotation['caption'])
    return captions


def _from_chats(content: list[Any], path: Path) -> dict[str, list[str]]:
    captions: dict[str, list[str]] = {}
    for number, record in enumerate(content):
        if not isinstance(record, dict) or not isinstance(record.get('image'), str) \
                or not isinstance(record.get('conversations'), list):
            raise ValueError(f'{path}: record {number} is no chat about an image')
        answers = [turn.get('value') for turn in record['conversations']
                   if turn.get('from') == 'gpt']
        captions.setdefault(record['image'], []).extend(answers)
    return captions


class ShardedSource(CaptionSource):
    """The folder that captioners write (see :mod:`mvp_mm.datasets.captions.shards`).

    Opening reads every line once and keeps where each caption stands, 12 bytes a caption, not
    what it says.

    Args:
        path: The folder.
        on_duplicate: Called with the image and the places of a captioner's first and second
            caption of it; the first counts. Without it a duplicate is an error.

    Raises:
        ValueError: If a line is broken, naming file and line, or an image was captioned twice.
    """

    def __init__(self, path: str | Path, on_duplicate: DuplicateHandler | None = None) -> None:
        super().__init__(path)
        self.shards = shards_of(self.path)
        self.captioners = list(self.shards)
        if not self.captioners:
            raise ValueError(f'{self.path} holds no captions')
        self.files = [file for shards in self.shards.values() for shard, _ in shards
                      for file in (shard.manifest, shard.captions) if file.is_file()]
        self._data = [file for file in self.files if file.suffix == '.jsonl']
        self._on_duplicate = on_duplicate
        self.numbers: dict[str, int] = {}
        self._images: list[str] = []
        self._file_of: list[array] = []
        self._offset_of: list[array] = []
        for captioner in self.captioners:
            self._scan(captioner)
        size = len(self._images)
        for column in (*self._file_of, *self._offset_of):
            column.extend([-1] * (size - len(column)))

    def _scan(self, captioner: str) -> None:
        files, offsets = array('i'), array('q')
        for index, path in enumerate(self._data):
            if path.parent.name != captioner:
                continue
            for line in read_lines(path):
                where = f'{path}, line {line.number}'
                image = parse_image(line.content, where)
                parse_caption(line.content, f'{where}, {image}', captioner)
                number = self._number(image)
                if number >= len(files):
                    grow = [-1] * (number + 1 - len(files))
                    files.extend(grow)
                    offsets.extend(grow)
                if files[number] >= 0:
                    self._duplicate(image, self._place(files[number], offsets[number]), where)
                    continue
                files[number], offsets[number] = index, line.offset
        self._file_of.append(files)
        self._offset_of.append(offsets)

    def _number(self, image: str) -> int:
        number = self.numbers.setdefault(caption_key(image), len(self._images))
        if number == len(self._images):
            self._images.append(image)
        return number

    def _place(self, file: int, offset: int) -> str:
        with open(self._data[file], 'rb') as stream:
            number = sum(1 for _ in _until(stream, offset)) + 1
            image = json.loads(stream.readline())['image']
        return f'{self._data[file]}, line {number} ({image})'

    def _duplicate(self, image: str, first: str, second: str) -> None:
        if self._on_duplicate is None:
            raise ValueError(f'{image} was captioned twice: {first} and {second}')
        self._on_duplicate(image, first, second)

    def captioned(self, captioner: str) -> np.ndarray:
        """Which images, by their place in ``numbers``, a captioner has captioned, (n,) bool."""
        return np.frombuffer(self._file_of[self.captioners.index(captioner)], np.int32) >= 0

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[ImageCaptions]:
        """See :meth:`CaptionSource.__iter__`; sorted by key."""
        with ExitStack() as stack:
            streams = [stack.enter_context(open(path, 'rb')) for path in self._data]
            for key in sorted(self.numbers):
                number = self.numbers[key]
                captions = []
                for captioner, files, offsets in zip(
                        self.captioners, self._file_of, self._offset_of, strict=True):
                    if files[number] >= 0:
                        stream = streams[files[number]]
                        stream.seek(offsets[number])
                        captions.append(parse_caption(
                            json.loads(stream.readline()), str(stream.name), captioner))
                yield ImageCaptions(self._images[number], tuple(captions))


def _until(stream: Any, offset: int) -> Iterator[bytes]:
    """Lines before a byte of a file."""
    position = 0
    while position < offset:
        line = stream.readline()
        position += len(line)
        yield line
