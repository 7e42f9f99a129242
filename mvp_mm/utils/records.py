# Copyright (c) mvp_mm authors. All rights reserved.
"""What the records of annotation and prediction files hold, described once for each format."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from mvp_mm.utils.faults import Faults
from mvp_mm.utils.texts import is_encodable, is_text, named, shown

# Readers keep the lowest of the 64-bit numbers for records without an id and for texts as ids.
_WHOLE = 1 << 63
_LOWEST_ID = (1 << 40) - _WHOLE
_MAX_SIDE = (1 << 31) - 1
# What coordinates in pixels may be: polygons are drawn and areas of boxes multiplied in float32.
MAX_COORDINATE = 1 << 20
_NUMBERS = {int, float}
_FOUR_FLOATS = [float] * 4
_ABSENT: Any = object()


class Field(NamedTuple):
    """What a value of a record may be.

    Attributes:
        accepts: Whether a value, of any type, is one.
        expected: What is accepted, to be read after "expected".
        required: Whether every record has it.
        fault: What a check calls other values.
    """

    accepts: Callable[[Any], bool]
    expected: str
    required: bool = True
    fault: str = 'broken record'

    @property
    def optional(self) -> Field:
        """The same, where records may lack it."""
        return self._replace(required=False)


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number of 64 bits; true and false are none."""
    return type(value) is int and _LOWEST_ID <= value < _WHOLE


def is_number(value: Any) -> bool:
    """Whether a value is a number that is finite as a 64-bit float."""
    if type(value) not in _NUMBERS:
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _is_box(value: Any) -> bool:
    """Four numbers; whether they are finite is told apart from records that cannot be read."""
    if type(value) is not list or len(value) != 4:
        return False
    types = list(map(type, value))
    if types == _FOUR_FLOATS:
        return True
    if not _NUMBERS.issuperset(types):
        return False
    try:
        return bool(list(map(float, value)))
    except OverflowError:
        return False


def _is_id_or_text(value: Any) -> bool:
    if type(value) is int:
        return _LOWEST_ID <= value < _WHOLE
    return is_text(value)


def _is_flag(value: Any) -> bool:
    return type(value) in (int, bool) and 0 <= value <= 1


def is_file_name(value: Any) -> bool:
    """Whether a value is a path that a file system can have."""
    if not isinstance(value, str) or not value or '\0' in value or not is_encodable(value):
        return False
    return len(value) < 64 or len(value.encode()) < 4000 and all(
        len(part.encode()) < 256 for part in value.split('/'))


def _is_point(value: Any) -> bool:
    return type(value) is list and len(value) == 2 and all(map(is_number, value)) and max(
        map(abs, value)) <= MAX_COORDINATE


def list_of(item: Field) -> Field:
    """A list of values of one kind."""
    return Field(lambda value: type(value) is list and all(map(item.accepts, value)),
                 f'a list, each of it {item.expected}')


ID = Field(is_whole, 'a whole number of 64 bits')
ID_OR_TEXT = Field(_is_id_or_text, 'a whole number of 64 bits or a text')
SIDE = Field(lambda value: type(value) is int and 0 < value <= _MAX_SIDE,
             'a positive whole number of 32 bits')
COUNT = Field(lambda value: is_whole(value) and value >= 0, 'a whole number, 0 or more')
# Panoptic maps have 24 bits; 0 is where no segment is.
SEGMENT_ID = Field(lambda value: type(value) is int and 0 < value < 1 << 24,
                   'a whole number from 1 to 16777215')
FLAG = Field(_is_flag, '0, 1, true or false')
# JSON's NaN is a box that cannot be used, not a record that cannot be read.
BOX = Field(_is_box, '[x, y, w, h]', fault='broken box')
SCORE = Field(lambda value: is_number(value) and 0 <= value <= 1, 'a number from 0 to 1')
FINITE_BOX = Field(
    lambda value: type(value) is list and len(value) == 4 and all(map(is_number, value))
    and min(value[2:]) >= 0 and max(map(abs, value)) <= MAX_COORDINATE,
    f'[x, y, w, h], of no negative size, within {MAX_COORDINATE}',
    fault='broken box')
POINT = Field(_is_point, f'[x, y], finite and up to {MAX_COORDINATE}')
AREA = Field(lambda value: is_number(value) and value >= 0, 'a finite number, 0 or more')
TEXT = Field(is_text, 'a text that shows something and can be encoded', fault='broken text')
CLASS_NAME = TEXT._replace(fault='broken class name')
# A text that may be empty.
STRING = Field(lambda value: isinstance(value, str) and is_encodable(value),
               'a text that can be encoded')
FILE_NAME = Field(is_file_name, "a file's name that a file system can have")
LIST = Field(lambda value: type(value) is list, 'a list')
OBJECT = Field(lambda value: isinstance(value, dict), 'an object')
# A mask is looked at where it is decoded: see `mvp_mm.utils.masks.to_rle`.
ANYTHING = Field(lambda value: value is not _ABSENT, 'a value')


class RecordFormat:
    """The fields of one type of record; values of other keys are not looked at.

    Args:
        name: How messages call a record.
        ident: Key of its id.
        **fields: What each key's value may be.
    """

    def __init__(self, name: str, /, ident: str = 'id', **fields: Field) -> None:
        self.name, self.ident, self.fields = name, ident, fields
        self._checks = [(key, field.accepts, field.required) for key, field in fields.items()]

    def __contains__(self, key: str) -> bool:
        return key in self.fields

    def but(self, *, without: tuple[str, ...] = (), **fields: Field) -> RecordFormat:
        """A format with some fields left out, added or replaced."""
        kept = {key: field for key, field in self.fields.items() if key not in without}
        return RecordFormat(self.name, self.ident, **{**kept, **fields})

    def accepts(self, record: Any, faults: Faults, place: int | None = None, *,
                where: str = '', within: str = '') -> bool:
        """Whether a record is as it must be; its first fault is told if not.

        Args:
            record: The record, of any type.
            faults: Takes the fault.
            place: Position in its list, by which a record without an id is called.
            where: How messages call it, if not by name and id.
            within: What it belongs to, put before its name.
        """
        if isinstance(record, dict):
            get = record.get
            for key, accepts, required in self._checks:
                value = get(key, _ABSENT)
                # No field accepts what stands for a missing key.
                if not accepts(value) and (required or value is not _ABSENT):
                    break
            else:
                return True
        self._tell(record, faults, where or within + self.where(record, place))
        return False

    def where(self, record: Any, place: int | None = None) -> str:
        """How messages call a record: by its id, or by its place where it has none."""
        known = record if isinstance(record, dict) else {}
        ident = known.get(self.ident)
        if is_whole(ident) or is_text(ident):
            return f'{self.name} {named(ident)}'
        image = known.get('image_id')
        of = f' (image {named(image)})' if is_whole(image) or is_text(image) else ''
        return self.name + ('' if place is None else f' number {place}') + of

    def _tell(self, record: Any, faults: Faults, where: str) -> None:
        if not isinstance(record, dict):
            return faults('broken record', where, f'must be an object, got {shown(record)}')
        missing = [key for key, field in self.fields.items()
                   if field.required and key not in record]
        if missing:
            return faults('missing key', where, f'lacks {", ".join(missing)}')
        key, field = next((key, field) for key, field in self.fields.items()
                          if key in record and not field.accepts(record[key]))
        faults(field.fault, where, f'has {key} {shown(record[key])}, expected {field.expected}')
