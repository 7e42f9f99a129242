# Copyright (c) mvp_mm authors. All rights reserved.
"""Reading a JSON object of long lists record by record, in little memory."""
from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mvp_mm.utils.files import check_annotation_file
from mvp_mm.utils.texts import shown

_WINDOW = 8 << 20
_LONGEST = 1 << 28
_SPACE = re.compile(r'[ \t\n\r]*')
_COMMA = re.compile(r'[ \t\n\r]*,[ \t\n\r]*')
_decode = json.JSONDecoder().raw_decode


class JsonStream:
    """Walks through a JSON file whose top level is an object.

    The file is decoded as Latin-1, in which a character is a byte, so that positions in the text
    are positions in the file; a record that is not plain ASCII is decoded again as UTF-8.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: If it does not exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        check_annotation_file(path)
        self._start = 0
        self._text = ''
        self._at = 0

    def records(self, lists: Sequence[str]) -> Iterator[tuple[str, Any, int, int]]:
        """Stream the members of some lists of the top-level object; other values are skipped.

        Args:
            lists: Keys of the lists.

        Yields:
            The list's key, the record, and where its text begins and ends in the file (bytes).

        Raises:
            ValueError: If the file is not JSON, its top level is not an object, or a list is
                missing or a key there twice.
        """
        seen, keys = set(), set()
        with open(self.path, 'rb') as file:
            self._file = file
            if self._next() != '{':
                self._fail('top level must be an object; labels of YOLO, Pascal VOC, CVAT and CSV '
                           'files are read by: mvp-mm data')
            self._at += 1
            more = self._next() != '}'
            while more:
                key = self._value()[0]
                if not isinstance(key, str):
                    self._fail('expected a key')
                if key in keys:
                    self._fail(f'the key {shown(key)} is there twice')
                keys.add(key)
                self._take(':')
                if key in lists and self._next() == '[':
                    seen.add(key)
                    yield from self._members(key)
                else:
                    self._value()
                more = self._take(',}') == ','
            if self._next_after_end():
                self._fail('data after the end')
        for key in lists:
            if key not in seen:
                raise ValueError(f'{self.path}: no list of {key}, as COCO JSON has it; other '
                                 f'labels are read by: mvp-mm data {self.path} --out DIR')

    def _members(self, key: str) -> Iterator[tuple[str, Any, int, int]]:
        self._at += 1
        if self._next() == ']':
            self._at += 1
            return
        while True:
            value, begin, end = self._value()
            yield key, value, begin, end
            comma = _COMMA.match(self._text, self._at)
            if comma:
                self._at = comma.end()
            elif self._take(',]') == ']':
                return

    def _take(self, allowed: str) -> str:
        """Step over the next character, which must be one of the allowed ones."""
        found = self._next()
        if found not in allowed:
            self._fail(f'expected {" or ".join(allowed)}, found {found!r}')
        self._at += 1
        return found

    def _next(self) -> str:
        """The next character that is not space."""
        found = self._next_after_end()
        if not found:
            self._fail('the file ends early')
        return found

    def _next_after_end(self) -> str:
        while True:
            self._at = _SPACE.match(self._text, self._at).end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._grow(_WINDOW):
                return ''

    def _grow(self, size: int) -> bool:
        """Drop the text already read and read some more; False at the end of the file."""
        data = self._file.read(size)
        self._text = self._text[self._at:] + data.decode('latin-1')
        self._start += self._at
        self._at = 0
        return bool(data)

    def _value(self) -> tuple[Any, int, int]:
        """Decode the value that comes next."""
        if self._text[self._at:self._at + 1] != '{':
            self._next()
        size = _WINDOW
        while True:
            try:
                value, end = _decode(self._text, self._at)
                # A number at the window's end may go on behind it.
                if end < len(self._text) or not self._grow(size):
                    break
            except (ValueError, RecursionError) as error:
                # More text helps only where the value is not all there yet.
                cut = isinstance(error, json.JSONDecodeError)
                if not cut or len(self._text) - self._at > _LONGEST or not self._grow(size):
                    self._fail(str(error))
            size *= 2
        first = self._start + self._at
        if not self._text.isascii() and not (text := self._text[self._at:end]).isascii():
            try:
                value = json.loads(text.encode('latin-1'))
            except ValueError as error:
                self._fail(str(error))
        self._at = end
        return value, first, self._start + end

    def _fail(self, reason: str) -> None:
        raise ValueError(f'{self.path} is not valid JSON: byte {self._start + self._at}: {reason}')
