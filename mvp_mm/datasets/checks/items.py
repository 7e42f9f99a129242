# Copyright (c) mvp_mm authors. All rights reserved.
"""From a dataset's items to the files that are looked at."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.checks.jobs import ImageJob
from mvp_mm.datasets.checks.report import Report
from mvp_mm.datasets.readers.semantic_map import SemanticMapDataset
from mvp_mm.utils.faults import Faults

_TAR_KEYS = ('img_path', 'tar_path', 'tar_offset', 'tar_size')


class ReportedFaults(Faults):
    """Records faults in a report; the reader goes on.

    Args:
        path: The file.
        report: The report.
    """

    collects = True

    def __init__(self, path: str, report: Report) -> None:
        super().__init__(path)
        self.report = report

    def __call__(self, kind: str, where: str, message: str) -> None:
        """See :class:`Faults`."""
        self.report.add(kind, where, message)

    def warn(self, kind: str, where: str, message: str) -> None:
        """See :class:`Faults`."""
        self.report.add(kind, where, message)

    def note(self, what: str, number: int = 1) -> None:
        """See :class:`Faults`."""
        self.report.notes[what] += number

    def count(self, what: str, number: int = 1) -> None:
        """See :class:`Faults`."""
        self.report.counts[what] += number


def image_jobs(dataset: PerceptionDataset) -> Iterator[ImageJob]:
    """One job per item, made when it is asked for."""
    semantic = None
    if isinstance(dataset, SemanticMapDataset):
        semantic = [*dataset.values.tolist(), *dataset.ignore]
    for idx in range(len(dataset)):
        yield _job(dataset.compact_item(idx), semantic, dataset.apply_exif)


def _job(item: dict[str, Any], semantic: list[int] | None, apply_exif: bool) -> ImageJob:
    segmentations = item.get('segmentations', ())
    ids = item.get('ann_ids', range(len(segmentations)))
    masks = zip(ids, segmentations, strict=True)
    panoptic = None
    if 'panoptic_path' in item:
        panoptic = (item['panoptic_path'], item['segment_ids'].tolist())
    return ImageJob(
        path=item['img_path'],
        where=f'image {item["img_id"]}',
        size=(item['height'], item['width']) if 'height' in item else None,
        apply_exif=apply_exif,
        tar={key: item[key] for key in _TAR_KEYS} if 'tar_path' in item else None,
        masks=[(f'annotation {ann_id}', segmentation) for ann_id, segmentation in masks],
        shapes=item.get('shapes', ()),
        panoptic=panoptic,
        semantic=None if semantic is None else (item['seg_map_path'], semantic))
