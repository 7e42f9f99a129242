# Copyright (c) mvp_mm authors. All rights reserved.
"""Puts saved predictions back onto the samples they answer."""
from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from mvp_mm.evaluation.base import sample_name
from mvp_mm.evaluation.prediction_writer import plain
from mvp_mm.evaluation.saved_vocabulary import SavedVocabulary
from mvp_mm.structures import PerceptionDataSample
from mvp_mm.utils.faults import Faults
from mvp_mm.utils.files import load_json
from mvp_mm.utils.masks import read_segment_map

Record = dict[str, Any]
_PANOPTIC_LISTS = ('images', 'annotations', 'categories')


class PredictionReader:
    """Predictions of one data set, as :class:`PredictionWriter` saves them.

    Args:
        folder: The folder.
        classes: The data set's classes.
        thing_flags: Whether each is a thing.
        ann_file: COCO-style JSON whose category ids the files use; as it was for the writer.

    Raises:
        FileNotFoundError: If there are no predictions.
        ValueError: If a file is broken.
    """

    def __init__(self, folder: str | Path, classes: Sequence[str] = (),
                 thing_flags: Sequence[bool] = (), ann_file: str | None = None) -> None:
        self.folder = Path(folder)
        self.vocabulary = SavedVocabulary(classes, thing_flags, ann_file)
        self._tasks: dict[str, _TaskFiles] = {}
        self._parts: Counter = Counter()
        if not any(self.folder.glob('*/images.json')):
            raise FileNotFoundError(f'{folder} holds no predictions (no */images.json)')

    def answer(self, sample: PerceptionDataSample) -> None:
        """Set a sample's predictions.

        Samples of one image and task come in the order in which they were predicted.

        Raises:
            KeyError: If there is no prediction for the sample.
            ValueError: If the prediction does not fit the sample; named in both.
        """
        task = sample.instruction.task
        if task not in self._tasks:
            self._tasks[task] = _TaskFiles(self.folder / task)
        files = self._tasks[task]
        image = plain(sample.img_id)
        part = self._parts[task, image]
        self._parts[task, image] += 1
        try:
            if sample.instruction.kind == 'sentence':
                self._answer_sentence(sample, files, image)
            else:
                self._answer_words(sample, files, image, part)
        except ValueError as error:
            raise ValueError(f'{files.folder}: {_name(sample)}: {error}') from error

    def check_all_used(self) -> None:
        """Refuse predictions that answer no sample.

        Raises:
            ValueError: Naming the first.
        """
        saved = {path.parent.name for path in self.folder.glob('*/images.json')}
        unasked = saved - self._tasks.keys()
        if unasked:
            raise ValueError(f'{self.folder}: predictions of tasks that the data set does not '
                             f'ask: {sorted(unasked)}')
        for files in self._tasks.values():
            files.check_all_used()

    def _answer_sentence(self, sample: PerceptionDataSample, files: _TaskFiles,
                         image: Any) -> None:
        key = (image, plain(sample.get('ref_id', '')), plain(sample.get('sent_id', '')),
               sample.instruction.phrases[0])
        record = files.one('sentences', key, sample)
        if record.get('caption') is not None:
            sample.pred_caption = record['caption']
        size = sample.ori_shape[:2]
        for field, name in (('pred_instances', 'instances'), ('pred_candidates', 'candidates')):
            if name in record:
                setattr(sample, field, _instances(record[name], [0] * len(record[name]), size))
        self._add_others(sample, files, key)

    def _answer_words(self, sample: PerceptionDataSample, files: _TaskFiles, image: Any,
                      part: int) -> None:
        files.one('images', (image,), sample, again=part > 0)
        if files.has('captions'):
            sample.pred_caption = files.one('captions', (image, part), sample)['caption']
        phrases = sample.instruction.phrases
        if files.has('instances') or files.has('grounding'):
            place = {phrase: k for k, phrase in enumerate(phrases)}
            records = files.some('instances', image, lambda r: self._class(r) in place)
            labels = [place[self._class(record)] for record in records]
            grounded = files.some('grounding', image, lambda r: r['phrase'] in place)
            labels += [place[record['phrase']] for record in grounded]
            sample.pred_instances = _instances(
                records + grounded, labels, sample.ori_shape[:2])
        if files.has('panoptic'):
            sample.pred_panoptic_seg = self._panoptic(sample, files, image)
        if files.has('semantic'):
            sample.pred_sem_seg = self._semantic(sample, files, image)
        self._add_others(sample, files, (image, part))

    @staticmethod
    def _add_others(sample: PerceptionDataSample, files: _TaskFiles, key: tuple) -> None:
        if files.has('other'):
            for name, value in files.one('other', key, sample).items():
                if name.startswith('pred_'):
                    sample.set_field(value, name)

    def _class(self, record: Record) -> str:
        number = record['category_id']
        if number not in self.vocabulary.place_of_id:
            raise ValueError(f'unknown category {number}')
        return self.vocabulary.names[self.vocabulary.place_of_id[number]]

    def _labels(self, sample: PerceptionDataSample) -> np.ndarray:
        """Phrase of each class of the vocabulary, -1 where the sample does not ask for it."""
        if not self.vocabulary.covers(sample.instruction.phrases):
            raise ValueError('its phrases are not classes of the data set')
        labels = np.full(len(self.vocabulary.names), -1, dtype=np.int64)
        for label, phrase in enumerate(sample.instruction.phrases):
            labels[self.vocabulary.place[phrase]] = label
        return labels

    def _panoptic(self, sample: PerceptionDataSample, files: _TaskFiles, image: Any) -> Record:
        record = files.one('panoptic', (image,), sample)
        labels = self._labels(sample)
        segments = []
        for segment in record['segments_info']:
            name = self._class(segment)
            segments.append({**{k: v for k, v in segment.items() if k != 'category_id'},
                             'label': int(labels[self.vocabulary.place[name]])})
        ids = read_segment_map(str(files.folder / 'panoptic' / record['file_name']))
        return dict(panoptic=torch.from_numpy(ids.astype(np.int32)), segments_info=segments)

    def _semantic(self, sample: PerceptionDataSample, files: _TaskFiles,
                  image: Any) -> torch.Tensor:
        path = files.folder / 'semantic' / files.one('semantic', (image,), sample)['file_name']
        values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if values is None or values.ndim != 2:
            raise ValueError(f'{path} is not a readable map of classes')
        labels = self._labels(sample)
        if values.max() >= len(labels):
            raise ValueError(f'{path} has class {values.max()} of {len(labels)}')
        return torch.from_numpy(labels[values])


class _TaskFiles:
    """The record files of one task, read when first asked for, and what was used of them."""

    _KEYS = {
        'images': ('id',), 'captions': ('image_id', 'part'),
        'sentences': ('image_id', 'ref_id', 'sent_id', 'expression'),
        'panoptic': ('image_id',), 'semantic': ('image_id',),
    }

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._single: dict[str, dict[tuple, Record]] = {}
        self._many: dict[str, dict[Any, list[Record]]] = {}
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
            keys = self._KEYS.get(name)
            found: dict[tuple, Record] = {}
            for record in self._load(name):
                named = keys or self._KEYS['sentences' if 'expression' in record else 'captions']
                Faults(path).complete(record, named, 'prediction')
                key = tuple(record[k] for k in named)
                if key in found:
                    raise ValueError(f'{path}: {dict(zip(named, key, strict=True))} is there twice')
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
            raise KeyError(f'{self.folder / name}.json has no prediction for {_name(sample)}')
        if key in self._used[name] and not again:
            raise ValueError(f'the data set asks for {key} twice')
        self._used[name].add(key)
        return records[key]

    def some(self, name: str, image: Any,
             wanted: Callable[[Record], bool]) -> list[Record]:
        """The records of an image that are wanted, in the file's order."""
        if not self.has(name):
            return []
        if name not in self._many:
            path = str(self.folder / f'{name}.json')
            of = 'category_id' if name == 'instances' else 'phrase'
            self._many[name] = defaultdict(list)
            for number, record in enumerate(self._load(name)):
                Faults(path).complete(record, ('image_id', of, 'bbox', 'score'),
                                      f'prediction {number}')
                self._many[name][record['image_id']].append(record)
        mine, rest = [], []
        for record in self._many[name].get(image, ()):
            (mine if wanted(record) else rest).append(record)
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


def _name(sample: PerceptionDataSample) -> str:
    return sample_name(sample.to_dict())


def _instances(records: list[Record], labels: list[int], size: tuple[int, int]) -> InstanceData:
    """COCO's records as instances; without any there are no masks either, of the image's size."""
    boxes = np.array([record['bbox'] for record in records], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    found = InstanceData(
        bboxes=torch.from_numpy(boxes).float(),
        scores=torch.tensor([record['score'] for record in records], dtype=torch.float32),
        labels=torch.tensor(labels, dtype=torch.int64))
    rles = [record['segmentation'] for record in records if 'segmentation' in record]
    if len(rles) != len(records):
        if rles:
            raise ValueError(f'{len(rles)} of {len(records)} predictions have a mask')
    elif rles:
        found.masks = torch.from_numpy(
            np.ascontiguousarray(coco_mask.decode(rles).transpose(2, 0, 1))).bool()
    else:
        found.masks = torch.zeros((0, *map(int, size)), dtype=torch.bool)
    return found
