# Copyright (c) mvp_mm authors. All rights reserved.
"""Puts saved predictions back onto the samples they answer."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.structures import InstanceData

from mvp_mm.evaluation.prediction_formats import ANSWER, SEGMENT
from mvp_mm.evaluation.prediction_records import Answer, Record, TaskRecords, name_of
from mvp_mm.evaluation.prediction_writer import plain
from mvp_mm.evaluation.saved_vocabulary import SavedVocabulary
from mvp_mm.structures import PerceptionDataSample
from mvp_mm.utils.faults import Faults
from mvp_mm.utils.masks import read_segment_map, rle_masks, to_rle
from mvp_mm.utils.texts import named


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
        self._tasks: dict[str, TaskRecords] = {}
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
            self._tasks[task] = TaskRecords(self.folder / task)
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
            if str(error).startswith(str(files.folder)):
                # A record at fault is named itself; the sample merely was the first to need it.
                raise
            raise ValueError(f'{files.folder}: {name_of(sample)}: {error}') from error

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

    def _answer_sentence(self, sample: PerceptionDataSample, files: TaskRecords,
                         image: Any) -> None:
        key = (image, plain(sample.get('ref_id', '')), plain(sample.get('sent_id', '')),
               sample.instruction.phrases[0])
        record = files.one('sentences', key, sample)
        if record.get('caption') is not None:
            sample.pred_caption = record['caption']
        if record.get('presence') is not None:
            sample.pred_sentence_presence = torch.tensor(float(record['presence']))
        size = sample.ori_shape[:2]
        for field, name in (('pred_instances', 'instances'), ('pred_candidates', 'candidates')):
            if name not in record:
                continue
            path = files.folder / 'sentences.json'
            within = f'image {named(image)}, sentence {named(key[2])}, {name}: '
            answers = []
            for place, answer in enumerate(record[name]):
                ANSWER.accepts(answer, Faults(path), place, within=within)
                answers.append(Answer(f'{path}: {within}{ANSWER.where(answer, place)}', answer))
            setattr(sample, field, _instances(answers, [0] * len(answers), size))
        self._add_others(sample, files, key)

    def _answer_words(self, sample: PerceptionDataSample, files: TaskRecords, image: Any,
                      part: int) -> None:
        files.one('images', (image,), sample, again=part > 0)
        if files.has('captions'):
            sample.pred_caption = files.one('captions', (image, part), sample)['caption']
        phrases = sample.instruction.phrases
        if files.has('instances') or files.has('grounding'):
            place = {phrase: k for k, phrase in enumerate(phrases)}
            records = files.some('instances', image, lambda r: self._class(r) in place)
            labels = [place[self._class(answer.record)] for answer in records]
            grounded = files.some('grounding', image, lambda r: r['phrase'] in place)
            labels += [place[answer.record['phrase']] for answer in grounded]
            sample.pred_instances = _instances(
                records + grounded, labels, sample.ori_shape[:2])
        if files.has('panoptic'):
            sample.pred_panoptic_seg = self._panoptic(sample, files, image)
        if files.has('semantic'):
            sample.pred_sem_seg = self._semantic(sample, files, image)
        self._add_others(sample, files, (image, part))

    @staticmethod
    def _add_others(sample: PerceptionDataSample, files: TaskRecords, key: tuple) -> None:
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

    def _panoptic(self, sample: PerceptionDataSample, files: TaskRecords, image: Any) -> Record:
        record = files.one('panoptic', (image,), sample)
        labels = self._labels(sample)
        segments = []
        for number, segment in enumerate(record['segments_info']):
            SEGMENT.accepts(segment, Faults(files.folder / 'panoptic.json'), number,
                            within=f'image {image}, ')
            name = self._class(segment)
            segments.append({**{k: v for k, v in segment.items() if k != 'category_id'},
                             'label': int(labels[self.vocabulary.place[name]])})
        ids = read_segment_map(str(files.folder / 'panoptic' / record['file_name']))
        return dict(panoptic=torch.from_numpy(ids.astype(np.int32)), segments_info=segments)

    def _semantic(self, sample: PerceptionDataSample, files: TaskRecords,
                  image: Any) -> torch.Tensor:
        path = files.folder / 'semantic' / files.one('semantic', (image,), sample)['file_name']
        try:
            values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        except cv2.error as error:
            raise ValueError(f'{path} is not a readable map of classes: {error}') from error
        if values is None or values.ndim != 2:
            raise ValueError(f'{path} is not a readable map of classes')
        labels = self._labels(sample)
        if values.max() >= len(labels):
            raise ValueError(f'{path} has class {values.max()} of {len(labels)}')
        return torch.from_numpy(labels[values])


def _instances(answers: list[Answer], labels: list[int], size: tuple[int, int]) -> InstanceData:
    """COCO's records as instances; without any there are no masks either, of the image's size."""
    records = [answer.record for answer in answers]
    height, width = map(int, size)
    boxes = np.array([record['bbox'] for record in records], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    found = InstanceData(
        bboxes=torch.from_numpy(boxes).float(),
        scores=torch.tensor([record['score'] for record in records], dtype=torch.float32),
        labels=torch.tensor(labels, dtype=torch.int64))
    rles = [to_rle(answer.record['segmentation'], height, width, answer.where)
            for answer in answers if 'segmentation' in answer.record]
    if len(rles) == len(records):
        found.masks = torch.from_numpy(rle_masks(rles, height, width)).bool()
    elif rles:
        raise ValueError(f'{len(rles)} of {len(records)} predictions have a mask')
    return found
