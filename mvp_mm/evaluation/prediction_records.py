# Copyright (c) mvp_mm authors. All rights reserved.
"""The record files of saved predictions, by what their records answer."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mvp_mm.evaluation.base import sample_name
from mvp_mm.evaluation.prediction_formats import FORMATS, KEYS
from mvp_mm.structures import PerceptionDataSample
from mvp_mm.utils.faults import Faults
from mvp_mm.utils.files import load_json

Record = dict[str, Any]


class Answer(NamedTuple):
    """A record of a box, a mask or both.

    Attributes:
        where: Its name in messages: file, place and image.
        record: The record.
    """

    where: str
    record: Record


class TaskRecords:
    """The record files of one task, read when first asked for, and what was used of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._single: dict[str, dict[tuple, Record]] = {}
        self._many: dict[str, dict[Any, list[Answer]]] = {}
        self._used: dict[str, set[tuple]] = defaultdict(set)

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.folder / f'{name}.json').is_file()

    def _load(self, name: str) -> list[Record]:
        path = self.folder / f'{name}.json'
        if name in ('images', 'panoptic'):
            key = 'images' if name == 'images' else 'annotations'
            records = load_json(path).get(key)
            if not isinstance(records, list):
                raise ValueError(f'{path}: no list of {key}')
            return records
        return load_json(path, list)

    def _by_key(self, name: str) -> dict[tuple, Record]:
        if name not in self._single:
            path = str(self.folder / f'{name}.json')
            found: dict[tuple, Record] = {}
            for number, record in enumerate(self._load(name)):
                kind = name
                if name == 'other':
                    sentence = isinstance(record, dict) and 'expression' in record
                    kind = 'other_sentences' if sentence else 'other_words'
                FORMATS[kind].accepts(record, Faults(path), number)
                key = tuple(record[k] for k in KEYS[kind])
                if key in found:
                    raise ValueError(f'{path}: {dict(zip(KEYS[kind], key, strict=True))} is there '
                                     'twice')
                found[key] = record
            self._single[name] = found
        return self._single[name]

    def one(self, name: str, key: tuple, sample: PerceptionDataSample,
            again: bool = False) -> Record:
        """The record of a key.

        Raises:
            KeyError: If there is none.
            ValueError: If it was asked for before and not ``again``.
        """
        records = self._by_key(name)
        if key not in records:
            raise KeyError(f'{self.folder / name}.json has no prediction for {name_of(sample)}')
        if key in self._used[name] and not again:
            raise ValueError(f'the data set asks for {key} twice')
        self._used[name].add(key)
        return records[key]

    def some(self, name: str, image: Any,
             wanted: Callable[[Record], bool]) -> list[Answer]:
        """The records of an image that are wanted, in the file's order."""
        if not self.has(name):
            return []
        if name not in self._many:
            path = str(self.folder / f'{name}.json')
            self._many[name] = defaultdict(list)
            for number, record in enumerate(self._load(name)):
                FORMATS[name].accepts(record, Faults(path), number)
                where = f'{path}: {FORMATS[name].where(record, number)}'
                self._many[name][record['image_id']].append(Answer(where, record))
        mine, rest = [], []
        for answer in self._many[name].get(image, ()):
            (mine if wanted(answer.record) else rest).append(answer)
        self._many[name][image] = rest
        return mine

    def check_all_used(self) -> None:
        """Refuse records that answer no sample.

        Raises:
            ValueError: Naming the first.
        """
        for name, records in self._single.items():
            unused = [key for key in records if key not in self._used[name]]
            if unused:
                raise ValueError(f'{self.folder / name}.json: the data set does not ask for '
                                 f'{unused[0]} ({len(unused)} such predictions)')
        for name, images in self._many.items():
            for image, records in images.items():
                if records:
                    raise ValueError(f'{self.folder / name}.json: {len(records)} predictions of '
                                     f'image {image} answer nothing the data set asks')


def name_of(sample: PerceptionDataSample) -> str:
    """How messages call a sample."""
    return sample_name(sample.to_dict())
