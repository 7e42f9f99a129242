# Copyright (c) mvp_mm authors. All rights reserved.
"""Saves predictions in the field's formats while a test runs (see docs/reference/evaluation.md)."""
from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
from mmengine.dist import barrier, broadcast_object_list, get_rank, get_world_size
from mmengine.evaluator import BaseMetric

from mvp_mm.evaluation.base import (
    checked_boxes,
    checked_masks,
    checked_scores,
    require,
    sample_name,
)
from mvp_mm.evaluation.prediction_files import PartFiles, merge_parts
from mvp_mm.evaluation.saved_vocabulary import SavedVocabulary
from mvp_mm.registry import METRICS
from mvp_mm.utils.arrays import to_numpy
from mvp_mm.utils.masks import encode_masks

# Predictions with a format of their own; any other ``pred_…`` goes to other.json as it is.
_KNOWN = ('pred_instances', 'pred_candidates', 'pred_panoptic_seg', 'pred_sem_seg', 'pred_caption',
          'pred_sentence_presence')


@METRICS.register_module()
class PredictionWriter(BaseMetric):
    """Writes every prediction to a folder; measures nothing.

    Records are appended to one file a process as they come; at the end the first process joins
    them, so that memory stays bounded. All processes must see the folder.

    Args:
        out_dir: The folder, one subfolder a task.
        ann_file: COCO-style JSON whose category ids to use.
        **kwargs: As for :class:`mmengine.evaluator.BaseMetric`.
    """

    default_prefix = 'saved'

    def __init__(self, out_dir: str, ann_file: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.out_dir = Path(out_dir)
        self.ann_file = ann_file
        self._vocabulary: SavedVocabulary | None = None
        self._files = PartFiles(self.out_dir, get_rank())
        self._seen: set[tuple] = set()

    @property
    def vocabulary(self) -> SavedVocabulary:
        """The data set's classes."""
        if self._vocabulary is None:
            meta = self.dataset_meta or {}
            self._vocabulary = SavedVocabulary(
                meta.get('classes', ()), meta.get('thing_flags', ()), self.ann_file)
        return self._vocabulary

    def process(self, data_batch: Mapping[str, Any] | None,
                data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Write a batch.

        Raises:
            KeyError: If a prediction misses a part.
            ValueError: If a sample comes twice, or a prediction cannot be written without loss.
        """
        parts: Counter = Counter()
        for sample in data_samples:
            where = require(sample, 'instruction').task, plain(require(sample, 'img_id'))
            part = parts[where]
            parts[where] += 1
            try:
                self._write(sample, *where, part)
            except ValueError as error:
                name = sample_name(sample)
                if str(error).startswith(name):
                    raise
                raise ValueError(f'{name}: {error}') from error

    def _write(self, sample: Mapping[str, Any], task: str, image: Any, part: int) -> None:
        instruction = sample['instruction']
        self._note_image(sample, task, image, part)
        key = dict(image_id=image)
        if instruction.kind == 'sentence':
            key.update(ref_id=plain(sample.get('ref_id', '')),
                       sent_id=plain(sample.get('sent_id', '')), expression=instruction.phrases[0])
            self._note_once(sample, task, key)
            record = dict(key, caption=sample.get('pred_caption'))
            if 'pred_sentence_presence' in sample:
                record['presence'] = float(sample['pred_sentence_presence'])
            for field, name in (('pred_instances', 'instances'), ('pred_candidates', 'candidates')):
                if field in sample:
                    record[name] = _instances(sample, field)
            self._files.write(task, 'sentences', record)
        else:
            key['part'] = part
            self._note_once(sample, task, key)
            if sample.get('pred_caption') is not None:
                self._files.write(task, 'captions', dict(key, caption=sample['pred_caption']))
            if 'pred_instances' in sample:
                self._write_instances(sample, task, image)
            if 'pred_panoptic_seg' in sample:
                self._write_panoptic(sample, task, image)
            if 'pred_sem_seg' in sample:
                self._write_semantic(sample, task, image)
        other = {name: value for name, value in sample.items()
                 if name.startswith('pred_') and name not in _KNOWN}
        if other:
            self._files.write(task, 'other', dict(key, **other))

    def _note_image(self, sample: Mapping[str, Any], task: str, image: Any, part: int) -> None:
        if part == 0 and (task, image) not in self._seen:
            height, width = map(int, sample['ori_shape'][:2])
            self._files.write(task, 'images', dict(
                id=image, file_name=str(sample.get('img_path', '')), height=height, width=width))
            self._seen.add((task, image))

    def _note_once(self, sample: Mapping[str, Any], task: str, key: dict[str, Any]) -> None:
        if (task, *key.values()) in self._seen:
            raise ValueError(f'{sample_name(sample)}: predicted twice')
        self._seen.add((task, *key.values()))
        self._files.write(task, 'keys', key)

    def _write_instances(self, sample: Mapping[str, Any], task: str, image: Any) -> None:
        phrases = sample['instruction'].phrases
        labels = to_numpy(require(sample, 'pred_instances', 'labels')).tolist()
        named = self.vocabulary.covers(phrases)
        file = 'instances' if named else 'grounding'
        self._files.start(task, file)
        for label, record in zip(labels, _instances(sample, 'pred_instances'), strict=True):
            if named:
                of = dict(category_id=self.vocabulary.ids[self.vocabulary.place[phrases[label]]])
            else:
                of = dict(phrase=phrases[label])
            self._files.write(task, file, dict(image_id=image, **of, **record))

    def _places(self, sample: Mapping[str, Any]) -> list[int]:
        """Position of each phrase in the vocabulary."""
        phrases = sample['instruction'].phrases
        if not self.vocabulary.covers(phrases):
            raise ValueError('a map can be saved only where all phrases are classes of '
                             'the data set')
        return [self.vocabulary.place[phrase] for phrase in phrases]

    def _write_panoptic(self, sample: Mapping[str, Any], task: str, image: Any) -> None:
        places = self._places(sample)
        segments = require(sample, 'pred_panoptic_seg', 'segments_info')
        ids = to_numpy(require(sample, 'pred_panoptic_seg', 'panoptic')).astype(np.int64)
        if (ids < 0).any() or (ids >= 2**24).any():
            raise ValueError('segment ids must lie in [0, 2^24)')
        # The file's colours are R + 256 G + 65536 B; OpenCV writes them in the other order.
        name = self._write_map(task, 'panoptic', image, np.stack(
            (ids >> 16, ids >> 8 & 255, ids & 255), axis=-1).astype(np.uint8))
        checked_scores(sample, [segment.get('score', 0.) for segment in segments])
        self._files.write(task, 'panoptic', dict(image_id=image, file_name=name, segments_info=[
            dict(id=int(segment['id']), isthing=bool(segment.get('isthing', True)),
                 category_id=self.vocabulary.ids[places[segment['label']]],
                 **({'score': float(segment['score'])} if 'score' in segment else {}))
            for segment in segments]))

    def _write_semantic(self, sample: Mapping[str, Any], task: str, image: Any) -> None:
        places = np.array(self._places(sample))
        labels = to_numpy(sample['pred_sem_seg'])
        if ((labels < 0) | (labels >= len(places))).any():
            raise ValueError(f'predicted labels must lie in [0, {len(places)})')
        kind = np.uint8 if len(self.vocabulary.names) <= 256 else np.uint16
        name = self._write_map(task, 'semantic', image, places.astype(kind)[labels])
        self._files.write(task, 'semantic', dict(image_id=image, file_name=name))

    def _write_map(self, task: str, folder: str, image: Any, pixels: np.ndarray) -> str:
        path = self.out_dir / task / folder / f'{quote(str(image), safe="")}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            raise ValueError(f'{path} exists: predicted twice')
        if not cv2.imwrite(str(path), pixels):
            raise OSError(f'cannot write {path}')
        return path.name

    def evaluate(self, size: int) -> dict[str, float]:
        """Join the files of all processes.

        Args:
            size: Not used.

        Raises:
            FileNotFoundError: If the first process does not see what another has written.
            ValueError: If nothing was predicted, or a sample by two processes.
        """
        self._files.close()
        barrier()
        problem: list[Exception | None] = [None]
        if get_rank() == 0:
            try:
                merge_parts(self.out_dir, get_world_size(), self.vocabulary.categories())
            except (OSError, ValueError) as error:
                problem = [error]
        broadcast_object_list(problem)
        if problem[0] is not None:
            raise problem[0]
        return {}

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Nothing is measured."""
        return {}


def plain(value: Any) -> Any:
    """An id as JSON knows it."""
    return value.item() if isinstance(value, np.generic) else value


def _instances(sample: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
    """COCO's records of predictions, without image and category."""
    scores = checked_scores(sample, require(sample, field, 'scores'))
    boxes = checked_boxes(sample, require(sample, field, 'bboxes'))
    if len(boxes) != len(scores):
        raise ValueError(f'{field} has {len(boxes)} boxes and {len(scores)} scores')
    boxes[:, 2:] -= boxes[:, :2]
    # What a reader would refuse.
    if len(boxes) and (boxes[:, 2:].min() < 0 or scores.min() < 0 or scores.max() > 1):
        raise ValueError(f'{field} has a box of negative size or a score that is not from 0 to 1')
    records = [dict(bbox=box, score=score)
               for box, score in zip(boxes.tolist(), scores.tolist(), strict=True)]
    if 'masks' in sample[field]:
        masks = checked_masks(sample, sample[field]['masks'], len(scores))
        for record, rle in zip(records, encode_masks(masks), strict=True):
            record['segmentation'] = dict(size=rle['size'], counts=rle['counts'].decode())
    return records
