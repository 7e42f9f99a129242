# Copyright (c) mvp_mm authors. All rights reserved.
"""Makes answers of the model's predictions; full-size masks are let go."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mvp_mm.apis.answer import Answer
from mvp_mm.apis.answers import keep_scores
from mvp_mm.apis.compact_masks import RegionMasks, RleMasks
from mvp_mm.apis.questions import Question
from mvp_mm.structures import PerceptionDataSample
from mvp_mm.utils.arrays import to_numpy


def make_answer(sample: PerceptionDataSample, question: Question, name: str,
                size: tuple[int, int], read: Callable[[], np.ndarray],
                seconds: Mapping[str, float], thought: bool) -> Answer:
    """Make an answer.

    Args:
        sample: With predictions.
        question: What was asked.
        name: Of the image.
        size: (h, w) of the image.
        read: Reads the image again.
        seconds: Time that it took.
        thought: Whether the LLM wrote a caption.
    """
    asked = dict(text=question.text) if question.words is None else dict(
        words=list(question.words))
    common = dict(
        image=name, task=question.task, reason=question.reason,
        question=asked if question.asker.kind != 'caption' else {}, image_size=tuple(size),
        caption=sample.get('pred_caption', '') if thought else None, seconds=dict(seconds),
        instruction=sample.instruction, read=read, found_thr=question.found_thr,
        presence_thr=question.presence_thr, presence=_presence(sample))
    if 'pred_panoptic_seg' in sample:
        found = sample.pred_panoptic_seg
        return _of_segments(to_numpy(found['panoptic']), found['segments_info'], question, common)
    if 'pred_sem_seg' in sample:
        labels = to_numpy(sample.pred_sem_seg)
        flags = sample.instruction.is_thing
        segments = [dict(id=int(k) + 1, label=int(k), isthing=bool(flags[k]), score=None)
                    for k in np.unique(labels)]
        return _of_segments(labels + 1, segments, question, common)
    return _of_instances(sample, question, common)


def _presence(sample: PerceptionDataSample) -> float | None:
    presence = sample.get('pred_sentence_presence')
    return None if presence is None else float(presence)


def _of_instances(sample: PerceptionDataSample, question: Question,
                  common: dict[str, Any]) -> Answer:
    keep_scores(sample, question.threshold)
    found = sample.get('pred_instances')
    if found is None:
        return Answer(boxes=np.zeros((0, 4), np.float32), labels=[],
                      scores=np.zeros(0, np.float32), **common)
    class_ids = to_numpy(found.labels).astype(int)
    phrases = question.spelled(sample.instruction.phrases)
    return Answer(
        boxes=to_numpy(found.bboxes).astype(np.float32).reshape(-1, 4),
        labels=[phrases[label] for label in class_ids],
        scores=to_numpy(found.scores).astype(np.float32), class_ids=class_ids,
        compact_masks=RleMasks(found.masks) if 'masks' in found else None, **common)


def _of_segments(segment_map: np.ndarray, segments: list[dict[str, Any]], question: Question,
                 common: dict[str, Any]) -> Answer:
    if question.threshold_given:
        low = [s['id'] for s in segments
               if s['score'] is not None and s['score'] < question.threshold]
        segments = [s for s in segments if s['id'] not in low]
        segment_map = np.where(np.isin(segment_map, low), 0, segment_map)
    phrases = question.spelled(common['instruction'].phrases)
    most = max([s['id'] for s in segments], default=0)
    segment_map = segment_map.astype(np.min_scalar_type(most))
    ids = [s['id'] for s in segments]
    scores = [np.nan if s['score'] is None else s['score'] for s in segments]
    labels = [phrases[s['label']] for s in segments]
    return Answer(
        boxes=_region_boxes(segment_map, ids), labels=labels,
        scores=np.array(scores, dtype=np.float32),
        class_ids=np.array([s['label'] for s in segments], dtype=int),
        compact_masks=RegionMasks(segment_map, ids), segment_map=segment_map,
        segment_info=[dict(s, label=label) for s, label in zip(segments, labels, strict=True)],
        **common)


def _region_boxes(segment_map: np.ndarray, ids: list[int]) -> np.ndarray:
    """(n, 4) float32 xyxy around the regions of a map; zeros where a region has no pixel."""
    boxes = np.zeros((len(ids), 4), dtype=np.float32)
    for box, number in zip(boxes, ids, strict=True):
        mask = segment_map == number
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        if len(rows):
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes
