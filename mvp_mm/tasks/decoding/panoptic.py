# Copyright (c) mvp_mm authors. All rights reserved.
"""Divides the pixels among panoptic segments."""
from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mvp_mm.structures import PerceptionDataSample, RawPrediction
from mvp_mm.tasks.decoding.bands import MaskBands
from mvp_mm.tasks.decoding.tiles import divide_pixels
from mvp_mm.tasks.decoding.words import thing_flags, word_probabilities


def decode_panoptic(raw: RawPrediction, sample: PerceptionDataSample, *, score_thr: float,
                    mask_thr: float, overlap_thr: float) -> dict[str, Any]:
    """Assign every pixel to at most one panoptic segment.

    The query with the highest score times mask probability owns a pixel. A segment survives
    when it owns at least ``overlap_thr`` of the pixels that its mask claims.

    Args:
        raw: With ``logits`` (Q, K + 1).
        sample: Supplies the instruction and the frames.
        score_thr: A query takes part when its best phrase scores higher.
        mask_thr: Mask probability from which a pixel is claimed.
        overlap_thr: Least share of its claimed pixels that a segment must own.

    Returns:
        ``panoptic`` (h, w) int32 tensor of segment ids, 0 being void, and ``segments_info``:
        dicts of id, label, isthing, score. Stuff of one phrase is one segment.
    """
    scores, labels = word_probabilities(raw, sample).max(dim=-1)
    kept = torch.nonzero((labels < len(sample.instruction.phrases)) & (scores > score_thr))[:, 0]
    scores, labels, count = scores[kept], labels[kept], len(kept)
    if count == 0:
        size = tuple(map(int, sample.metainfo['ori_shape'][:2]))
        empty = torch.zeros(size, dtype=torch.int32, device=scores.device)
        return dict(panoptic=empty, segments_info=[])
    masks = MaskBands(raw.mask_logits, kept, sample.metainfo)
    division = divide_pixels(masks, scores, mask_thr=mask_thr, overlap_thr=overlap_thr)

    table = torch.stack((division.alive.double(), labels.double(), scores.double())).cpu().numpy()
    is_thing = thing_flags(raw, sample).cpu().numpy()
    ids, segments = _number_segments(table[0], table[1], table[2], is_thing)
    lut = torch.from_numpy(ids).to(scores.device)
    numbers = lut.index_select(0, division.owner.flatten()).view_as(division.owner)
    return dict(panoptic=numbers, segments_info=segments)


def _number_segments(alive: np.ndarray, labels: np.ndarray, scores: np.ndarray,
                     is_thing: np.ndarray) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Give segment ids to the n surviving queries, one id for all the stuff of a phrase.

    Returns:
        (n + 1,) int32 id of each query, 0 for the dropped ones and for the last entry, and the
        segments.
    """
    ids = np.zeros(len(alive) + 1, dtype=np.int32)
    segments: list[dict[str, Any]] = []
    stuff: dict[int, dict[str, Any]] = {}
    for query in np.flatnonzero(alive):
        label, score = int(labels[query]), float(scores[query])
        segment = stuff.get(label)
        if segment is None:
            thing = bool(is_thing[label])
            segment = dict(id=len(segments) + 1, label=label, isthing=thing, score=score)
            segments.append(segment)
            if not thing:
                stuff[label] = segment
        segment['score'] = max(segment['score'], score)
        ids[query] = segment['id']
    return ids, segments
