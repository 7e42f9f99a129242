# Copyright (c) mvp_mm authors. All rights reserved.
"""Reads and writes lines of caption files; errors name file and line."""
from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mvp_mm.utils.records import is_file_name
from mvp_mm.utils.texts import is_encodable, shown


class Caption(NamedTuple):
    """One caption of an image.

    Attributes:
        captioner: Who wrote it.
        text: What it says.
        cut: Whether its writer ran into the length limit.
    """

    captioner: str
    text: str
    cut: bool = False


@dataclass(frozen=True)
class ImageCaptions:
    """All captions of one image, in the order of the captioners.

    Attributes:
        image: File name as the captioner saw it, relative to the folder of the images.
        captions: Its captions.
    """

    image: str
    captions: tuple[Caption, ...]


class Line(NamedTuple):
    """One line of a JSONL file.

    Attributes:
        number: Counted from 1.
        offset: Bytes before it.
        content: The object that it holds.
    """

    number: int
    offset: int
    content: dict[str, Any]


def read_lines(path: Path) -> Iterator[Line]:
    """Read a JSONL file line by line.

    A last line without its line break is what a killed writer leaves: it is passed over unless
    it is whole.

    Raises:
        ValueError: If any other line is no JSON object, naming the file and the line.
    """
    offset = 0
    with open(path, 'rb') as file:
        for number, raw in enumerate(file, start=1):
            try:
                content = json.loads(raw.decode('utf-8-sig' if number == 1 else 'utf-8'))
            except (ValueError, RecursionError) as error:
                if not raw.endswith(b'\n'):
                    return
                raise ValueError(f'{path}, line {number} is not valid JSON: {error}') from error
            if not isinstance(content, dict):
                raise ValueError(f'{path}, line {number} must be an object, got a '
                                 f'{type(content).__name__}')
            yield Line(number, offset, content)
            offset += len(raw)


def torn_tail(path: Path) -> int:
    """Bytes at the end of a JSONL file that a killed writer left of a line, 0 if there are none."""
    with open(path, 'rb') as file:
        size = file.seek(0, 2)
        tail = b''
        while size and b'\n' not in tail:
            step = min(size, 1 << 16)
            size -= step
            file.seek(size)
            tail = file.read(step) + tail
    tail = tail.rpartition(b'\n')[2]
    try:
        return 0 if not tail or isinstance(json.loads(tail), dict) else len(tail)
    except (ValueError, RecursionError):
        return len(tail)


def parse_caption(content: dict[str, Any], where: str, captioner: str) -> Caption:
    """Check one caption's record.

    Raises:
        ValueError: If it lacks its text or holds another type, naming ``where``.
    """
    text, cut = content.get('caption'), content.get('cut', False)
    if not isinstance(text, str) or not is_encodable(text) or not isinstance(cut, bool):
        raise ValueError(f'{where}: "caption" must be a text that can be encoded and "cut" true '
                         f'or false, got {shown(text)} and {shown(cut)}')
    return Caption(captioner, text, cut)


def parse_image(content: dict[str, Any], where: str) -> str:
    """Check the image's name in a record.

    Raises:
        ValueError: If it has none, naming ``where``.
    """
    image = content.get('image')
    if not is_file_name(image) or '..' in image.split('/'):
        raise ValueError(f'{where}: "image" must be a file name below the folder of the images, '
                         f'got {shown(image)}')
    return image


def parse_image_captions(content: dict[str, Any], where: str) -> ImageCaptions:
    """Check a line of a merged file: an image with the captions of all captioners.

    Raises:
        ValueError: If anything is missing or of another type, naming ``where``.
    """
    image = parse_image(content, where)
    captions = content.get('captions')
    if not isinstance(captions, list) or not all(isinstance(c, dict) for c in captions):
        raise ValueError(f'{where}: "captions" of {image} must be a list of objects')
    for caption in captions:
        if not isinstance(caption.get('captioner'), str):
            raise ValueError(f'{where}: a caption of {image} lacks its "captioner"')
    return ImageCaptions(image, tuple(
        parse_caption(caption, f'{where}, {image}', caption['captioner'])
        for caption in captions))


def caption_line(image: str, caption: Caption) -> str:
    """A line of a captioner's own file."""
    return _dump(dict(image=image, **_fields(caption)))


def image_line(entry: ImageCaptions) -> str:
    """A line of a merged file."""
    return _dump(dict(image=entry.image, captions=[
        dict(captioner=caption.captioner, **_fields(caption)) for caption in entry.captions]))


def _fields(caption: Caption) -> dict[str, Any]:
    return dict(caption=caption.text, **({'cut': True} if caption.cut else {}))


def _dump(content: dict[str, Any]) -> str:
    return json.dumps(content) + '\n'
