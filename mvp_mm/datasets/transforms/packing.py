# Copyright (c) mvp_mm authors. All rights reserved.
"""Packs the pipeline's results into tensors and data samples."""
from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.structures.mask import BitmapMasks
from mmdet.structures.mask.structures import BaseInstanceMasks
from mmengine.structures import InstanceData

from mvp_mm.registry import TRANSFORMS
from mvp_mm.structures import PerceptionDataSample, Request
from mvp_mm.utils.masks import encode_masks

_META_KEYS = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip',
              'flip_direction', 'apply_exif')


@TRANSFORMS.register_module()
class PackPerceptionInputs(BaseTransform):
    """One image, and one data sample for each of its instructions.

    Args:
        with_eval: Whether to pack ``gt_eval``, the ground truth in the original image's frame.
    """

    def __init__(self, with_eval: bool = False) -> None:
        self.with_eval = with_eval

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Pack the results.

        Returns:
            ``inputs``, a uint8 tensor (3, H, W) in BGR, and ``data_samples``, a list (see
            :class:`PerceptionDataSample`). A word list loses targets that a crop has removed or,
            in training, that have no pixel on the canvas; a request that has lost all of them,
            and a sentence that has lost any, is left out; None where no request is left.
        """
        image = torch.from_numpy(_planes(results['img']))
        meta = {key: results[key] for key in _META_KEYS if key in results}
        meta['batch_input_shape'] = tuple(image.shape[1:])
        present = results['gt_bboxes_labels']
        row = np.full(results['num_objects'], -1, dtype=np.int64)
        row[present] = np.arange(len(present))
        boxes = results['gt_bboxes'].tensor.numpy()
        masks = results.get('gt_masks')
        if masks is not None and ('crop' in results or not self.with_eval):
            # An object whose box reaches into a crop may have no pixel there; a small one may
            # have none after resizing.
            lossless = 'crop' not in results and min(results.get('scale_factor', (1.,))) >= 1
            row[present[_vanished(masks, lossless)]] = -1
        reference = _EvalReference(results) if self.with_eval else None

        samples = []
        for request in results['requests']:
            rows = row[request.targets]
            kept = rows >= 0
            whole = request.instruction.kind == 'sentence'
            if len(rows) and not (kept.all() if whole else kept.any()):
                continue
            instances = self._instances(boxes, masks, rows[kept], request.labels[kept])
            sample = PerceptionDataSample(
                metainfo=dict(meta, task=request.instruction.task, **request.meta))
            sample.gt_instances = instances
            sample.instruction = request.instruction
            sample.task_object = request.task
            if reference is not None:
                sample.gt_eval = reference.of(request)
            samples.append(sample)
        return dict(inputs=image, data_samples=samples) if samples else None

    @staticmethod
    def _instances(boxes: np.ndarray, masks: BaseInstanceMasks | None, rows: np.ndarray,
                   labels: np.ndarray) -> InstanceData:
        # Rows are taken in numpy: torch would start threads for these small copies.
        instances = InstanceData(
            bboxes=torch.from_numpy(boxes[rows]), labels=torch.from_numpy(labels))
        if masks is not None:
            instances.masks = torch.from_numpy(_bitmaps(masks, rows)).view(torch.bool)
        return instances


def _planes(image: np.ndarray) -> np.ndarray:
    """(h, w, 3) to (3, h, w), one channel at a time, which is how OpenCV is fast."""
    planes = np.empty((3, *image.shape[:2]), dtype=image.dtype)
    for channel, plane in enumerate(planes):
        cv2.extractChannel(image, channel, plane)
    return planes


def _bitmaps(masks: BaseInstanceMasks, rows: np.ndarray) -> np.ndarray:
    """Some of the masks, (m, h, w) uint8."""
    return masks.masks[rows] if isinstance(masks, BitmapMasks) else masks[rows].to_ndarray()


def _vanished(masks: BaseInstanceMasks, lossless: bool) -> np.ndarray:
    """(n,) whether a mask has no pixel; ``lossless`` tells that none was cut off or shrunk away."""
    if isinstance(masks, BitmapMasks):
        # Far faster than adding pixels up: it ends at the first one.
        return np.array([not mask.any() for mask in masks.masks], dtype=bool)
    # Segments of a map have pixels from the start; counting them takes a pass over the map.
    return np.zeros(len(masks), dtype=bool) if lossless else masks.areas == 0


class _EvalReference:
    """Ground truth of an image in its original frame; mask codes are computed once."""

    def __init__(self, results: dict[str, Any]) -> None:
        original = results['original']
        self.annotation = results['annotation']
        self.boxes = original['boxes']
        masks = original['masks']
        self.masks = None if masks is None else masks.to_ndarray()
        self.areas, self.ignored = results.get('areas'), results.get('ignored')
        self.has_segment_map = 'panoptic_path' in results
        self.row = np.full(len(self.annotation.labels), -1, dtype=np.int64)
        self.row[original['objects']] = np.arange(len(original['objects']))
        self._rles: dict[int, dict] = {}

    def of(self, request: Request) -> dict[str, Any]:
        """What a request's answer is compared with (see :class:`PerceptionDataSample`)."""
        instruction = request.instruction
        objects, labels = request.targets, request.labels
        crowd = np.zeros(len(objects), dtype=bool)
        if instruction.kind == 'word':
            regions, classes = self._crowd(instruction.phrases)
            objects = np.concatenate([objects, regions])
            labels = np.concatenate([labels, classes])
            crowd = np.concatenate([crowd, np.ones(len(regions), dtype=bool)])
        rows = self.row[objects]
        truth = dict(bboxes=self.boxes[rows], labels=labels, crowd=crowd)
        if self.ignored is not None and instruction.kind == 'sentence':
            truth['ignored'] = self.ignored
        if self.areas is not None:
            truth['areas'] = self.areas[objects]
        if instruction.kind == 'caption':
            truth['captions'] = self.annotation.captions
        if self.masks is not None:
            truth['masks'] = [self._rle(row) for row in rows]
            if self.has_segment_map and instruction.kind == 'word':
                truth.update(self._panoptic(rows, labels, crowd))
        return truth

    def _crowd(self, phrases: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Crowd regions whose class the list names, and its phrase."""
        position = {phrase: index for index, phrase in enumerate(phrases)}
        regions = [(index, position[self.annotation.vocabulary[label]])
                   for index, label in enumerate(self.annotation.labels)
                   if self.annotation.crowd[index] and label >= 0
                   and self.annotation.vocabulary[label] in position]
        array = np.array(regions, dtype=np.int64).reshape(-1, 2)
        return array[:, 0], array[:, 1]

    def _rle(self, row: int) -> dict[str, Any]:
        if row not in self._rles:
            self._rles[row] = encode_masks(self.masks[row:row + 1])[0]
        return self._rles[row]

    def _panoptic(self, rows: np.ndarray, labels: np.ndarray,
                  crowd: np.ndarray) -> dict[str, Any]:
        """Segments numbered from 1, in the order of the objects."""
        segment_map = np.zeros(self.masks.shape[1:], dtype=np.int32)
        info = []
        for number, (row, label, is_crowd) in enumerate(zip(rows, labels, crowd, strict=True), 1):
            segment_map[self.masks[row].view(bool)] = number
            info.append(dict(id=number, label=int(label), iscrowd=int(is_crowd)))
        return dict(panoptic=segment_map, segments_info=info)
