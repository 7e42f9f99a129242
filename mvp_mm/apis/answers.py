# Copyright (c) mvp_mm authors. All rights reserved.
"""Answers as JSON can hold them, and the files that they are written to."""
from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mvp_mm.structures import PerceptionDataSample
from mvp_mm.utils.arrays import to_numpy
from mvp_mm.utils.masks import encode_masks


def keep_scores(sample: PerceptionDataSample, score_thr: float) -> None:
    """Drop the instances of a sample that score lower; without a copy where all are kept."""
    found = sample.get('pred_instances')
    if found is None:
        return
    kept = found.scores >= score_thr
    if not bool(kept.all()):
        sample.pred_instances = found[kept]


def describe(sample: PerceptionDataSample, size: tuple[int, int]) -> dict[str, Any]:
    """Collect a sample's predictions as JSON can hold them.

    Args:
        sample: With predictions.
        size: (h, w) of the original image.

    Returns:
        ``size``, ``caption``, ``instances`` and, where predicted, ``panoptic``, ``semantic``.
    """
    phrases = sample.instruction.phrases
    result: dict[str, Any] = dict(
        size=list(size), caption=sample.get('pred_caption', ''), instances=[])
    if 'pred_instances' in sample:
        found = sample.pred_instances
        masks = found.masks if 'masks' in found else [None] * len(found)
        for box, score, label, mask in zip(
                found.bboxes.tolist(), found.scores.tolist(), found.labels.tolist(), masks,
                strict=True):
            instance = dict(label=phrases[label], score=round(score, 4),
                            bbox=[round(side, 2) for side in box])
            if mask is not None:
                instance['segmentation'] = _json_rle(mask)
            result['instances'].append(instance)
    if 'pred_panoptic_seg' in sample:
        segments = sample.pred_panoptic_seg['segments_info']
        rles = _region_rles(sample.pred_panoptic_seg['panoptic'], [s['id'] for s in segments])
        result['panoptic'] = [
            dict(segment, label=phrases[segment['label']], score=round(segment['score'], 4),
                 segmentation=rle) for segment, rle in zip(segments, rles, strict=True)]
    if 'pred_sem_seg' in sample:
        labels = np.unique(to_numpy(sample.pred_sem_seg)).tolist()
        rles = _region_rles(sample.pred_sem_seg, labels)
        result['semantic'] = [dict(label=phrases[label], segmentation=rle)
                              for label, rle in zip(labels, rles, strict=True)]
    return result


def _json_rle(mask: Any) -> dict[str, Any]:
    """A (h, w) mask as a COCO RLE dict with text counts."""
    rle, = encode_masks(mask[None])
    return dict(size=list(rle['size']), counts=rle['counts'].decode())


def _region_rles(label_map: Any, values: Sequence[int]) -> list[dict[str, Any]]:
    """The regions of a (h, w) map that have the given values, one full-size mask at a time."""
    label_map = to_numpy(label_map)
    return [_json_rle(label_map == value) for value in values]


class AnswerFiles(NamedTuple):
    """An answer's two files, before they have a name; can be sent to another process.

    Attributes:
        stem: Their name, unless another answer has it.
        picture: Content of a PNG file.
        text: Content of a JSON file.
    """

    stem: str
    picture: bytes
    text: str

    def write(self, folder: str | Path) -> list[Path]:
        """Write them to a folder under a name that no other answer gets."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        name = reserve_name(folder, self.stem)
        picture, text = folder / f'{name}.png', folder / f'{name}.json'
        picture.write_bytes(self.picture)
        text.write_text(self.text, encoding='utf-8')
        return [picture, text]


def reserve_name(folder: Path, stem: str) -> str:
    """Take a name for an answer's two files that no answer has yet: ``stem``, ``stem_2`` ...

    Its ``.json`` is created empty, so that no other thread or process takes the name.
    """
    for number in count(1):
        name = stem if number == 1 else f'{stem}_{number}'
        if (folder / f'{name}.png').exists():
            continue
        try:
            (folder / f'{name}.json').touch(exist_ok=False)
        except FileExistsError:
            continue
        return name
    raise AssertionError
