# Copyright (c) mvp_mm authors. All rights reserved.
"""Checks of one image's files, which run in worker processes."""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from mvp_mm.datasets.checks.report import Fault
from mvp_mm.datasets.readers.reason_seg import draw_shapes, target_of
from mvp_mm.datasets.readers.semantic_map import read_label_map
from mvp_mm.datasets.readers.tar_images import read_tar_bytes
from mvp_mm.utils.images import decode_with_header
from mvp_mm.utils.masks import read_segment_map, to_rle


@dataclass
class ImageJob:
    """One image and what belongs to it.

    Attributes:
        path: The image.
        where: Its name in messages.
        size: Annotated (h, w), None where the annotation does not tell.
        apply_exif: Whether the image is turned as its EXIF orientation says.
        tar: Keys of a tar member (see :func:`read_tar_bytes`), None for a plain file.
        masks: Pairs of a record's name and its segmentation.
        shapes: What :func:`draw_shapes` draws.
        panoptic: Path of a panoptic map and the ids that its JSON names.
        semantic: Path of a map of class values and the values that it may hold.
    """

    path: str
    where: str
    size: tuple[int, int] | None = None
    apply_exif: bool = True
    tar: dict[str, Any] | None = None
    masks: Sequence[tuple[str, Any]] = ()
    shapes: Sequence[tuple[str, list]] = ()
    panoptic: tuple[str, list[int]] | None = None
    semantic: tuple[str, list[int]] | None = None


@dataclass
class JobResult:
    """Faults and notes of a job."""

    faults: list[Fault] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)


def run_job(job: ImageJob) -> JobResult:
    """Check an image, its masks and its maps."""
    result = JobResult()
    size = _check_image(job, result)
    if size is not None and job.size is not None and size != tuple(job.size):
        result.faults.append(Fault('image size', job.where,
                                   f'{job.path} is {size} (h, w), annotated as {job.size}'))
    size = tuple(job.size) if job.size is not None else size
    if size is not None:
        for name, segmentation in job.masks:
            _check_mask(name, segmentation, size, result)
        if job.shapes and not target_of(draw_shapes(job.shapes, *size)).any():
            result.faults.append(Fault('empty mask', job.where, 'no pixel belongs to the target'))
    if job.panoptic is not None:
        _check_panoptic(job, size, result)
    if job.semantic is not None:
        _check_semantic(job, size, result)
    return result


def _check_image(job: ImageJob, result: JobResult) -> tuple[int, int] | None:
    """The size (h, w) at which the image is read, None where it is not."""
    try:
        data = Path(job.path).read_bytes() if job.tar is None else read_tar_bytes(job.tar)
        image, header = decode_with_header(data, job.path, job.apply_exif)
    except (OSError, ValueError) as error:
        if job.tar is None and isinstance(error, FileNotFoundError):
            result.faults.append(Fault('missing image', job.where, f'{job.path} does not exist'))
        else:
            result.faults.append(Fault('broken image', job.where, str(error)))
        return None
    if header.mode != 'RGB':
        result.notes[f'images of mode {header.mode}'] += 1
    if header.orientation != 1:
        how = 'turned or mirrored' if job.apply_exif else 'read as stored'
        result.notes[f'images with an EXIF orientation, {how}'] += 1
    return image.shape[:2]


def _check_mask(name: str, segmentation: Any, size: tuple[int, int], result: JobResult) -> None:
    try:
        area = int(coco_mask.area(to_rle(segmentation, *size, name)))
    except ValueError as error:
        result.faults.append(Fault('broken mask', name, str(error).removeprefix(f'{name}: ')))
        return
    if not area:
        result.faults.append(Fault('empty mask', name, 'no pixel belongs to it'))


def _read_map(read: Callable[[str], np.ndarray], path: str, job: ImageJob,
              size: tuple[int, int] | None, result: JobResult) -> np.ndarray | None:
    """A map of the image's size, None where it cannot be read; notes what is wrong with it."""
    try:
        values = read(path)
    except FileNotFoundError as error:
        result.faults.append(Fault('missing map', job.where, str(error)))
        return None
    except ValueError as error:
        result.faults.append(Fault('broken map', job.where, str(error)))
        return None
    if size is not None and values.shape != size:
        result.faults.append(Fault('map size', job.where,
                                   f'{path} is {values.shape} (h, w), its image {size}'))
    return values


def _check_panoptic(job: ImageJob, size: tuple[int, int] | None, result: JobResult) -> None:
    path, ids = job.panoptic
    segments = _read_map(read_segment_map, path, job, size, result)
    if segments is None:
        return
    found = np.setdiff1d(segments, [0])
    for kind, numbers in (('segment without pixels', np.setdiff1d(ids, found)),
                          ('segment not in the JSON', np.setdiff1d(found, ids))):
        if len(numbers):
            result.faults.append(Fault(kind, job.where, f'{path}: ids {numbers.tolist()}'))


def _check_semantic(job: ImageJob, size: tuple[int, int] | None, result: JobResult) -> None:
    path, allowed = job.semantic
    values = _read_map(read_label_map, path, job, size, result)
    unknown = np.setdiff1d(values, allowed) if values is not None else ()
    if len(unknown):
        result.faults.append(Fault('unknown class value', job.where,
                                   f'{path}: values {unknown.tolist()}'))
