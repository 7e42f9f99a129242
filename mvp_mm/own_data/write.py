# Copyright (c) mvp_mm authors. All rights reserved.
"""Writing of labels in the layouts that the datasets read: COCO JSON, and references beside it."""
from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from mvp_mm.own_data.labels import LabeledDataset, LabeledImage, LabeledObject, LabelError
from mvp_mm.utils.masks import to_rle

_OBJECT = 'object'    # the one category of objects that expressions alone name


@dataclass(frozen=True)
class Written:
    """Where a dataset was written.

    Attributes:
        folder: The folder with the annotation files.
        image_root: The folder to which the file names of images are relative.
        kind: ``'masks'``, ``'boxes'`` or ``'expressions'``: what the model can learn from it.
        summary: Lines that tell counts.
    """

    folder: Path
    image_root: Path
    kind: str
    summary: list[str]


def write_dataset(dataset: LabeledDataset, folder: str | Path) -> Written:
    """Write annotation files; images stay where they are.

    Boxes and masks become ``train.json`` and ``val.json`` in COCO's layout. Expressions become
    ``instances.json`` and ``refs.json`` in the REFER toolkit's.

    Args:
        dataset: Checked, with a split for every image.
        folder: Made where it does not exist.

    Returns:
        What was written.

    Raises:
        LabelError: If the folder holds files already, or objects have classes and expressions
            in part only.
    """
    folder = Path(folder)
    check_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    root = Path(os.path.commonpath([image.path.resolve().parent for image in dataset.images]))
    kind = ('expressions' if dataset.has_expressions else
            'masks' if dataset.has_masks else 'boxes')
    if kind == 'expressions':
        _write_references(dataset, folder, root)
    else:
        for split in ('train', 'val'):
            images = [image for image in dataset.images if image.split in (split, 'both')]
            _dump(_coco(images, dataset.classes, root), folder / f'{split}.json')
    return Written(folder, root, kind, summarize(dataset, kind))


def check_free(folder: Path) -> None:
    """Refuse a folder that holds files, or a file.

    Raises:
        LabelError: If it does.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LabelError(f'{folder} exists and is not an empty folder')


def summarize(dataset: LabeledDataset, kind: str) -> list[str]:
    """Count what a dataset holds, one line each."""
    images = dataset.images
    objects = [o for image in images for o in image.objects]
    lines = [f'{dataset.format}: {len(images)} images, {len(objects)} objects, '
             f'{sum(not image.objects for image in images)} images without objects']
    if kind == 'expressions':
        lines.append(f'{sum(len(o.expressions) for o in objects)} expressions')
    else:
        counts = Counter(o.label for o in objects)
        lines.append(f'{len(dataset.classes)} classes: ' + ', '.join(
            f'{name} {counts[name]}' for name in dataset.classes))
        masks = sum(o.segmentation is not None for o in objects)
        if kind == 'boxes' and masks:
            lines.append(f'{masks} of {len(objects)} objects have masks: boxes alone are used, '
                         'since masks are needed for all')
    lines += [f'passed over: {count} {what}' for what, count in dataset.passed_over.items()]
    return lines


def _coco(images: Sequence[LabeledImage], classes: Sequence[str], root: Path) -> dict[str, Any]:
    ids = {name: number for number, name in enumerate(classes, 1)}
    records, annotations = [], []
    for image_id, image in enumerate(images, 1):
        records.append(_image_record(image, image_id, root))
        for found in image.objects:
            annotations.append(_object_record(found, image, image_id, len(annotations) + 1,
                                              ids[found.label]))
    return dict(images=records, annotations=annotations,
                categories=[dict(id=number, name=name) for name, number in ids.items()])


def _image_record(image: LabeledImage, image_id: int, root: Path) -> dict[str, Any]:
    name = image.path.resolve().relative_to(root).as_posix()
    return dict(id=image_id, file_name=name, height=image.height, width=image.width)


def _object_record(found: LabeledObject, image: LabeledImage, image_id: int, number: int,
                   category: int) -> dict[str, Any]:
    x, y, w, h = found.box
    segmentation = found.segmentation
    area = w * h
    if segmentation is not None:
        rle = to_rle(segmentation, image.height, image.width, f'{image.path}, object {number}')
        area = float(coco_mask.area(rle))
        if isinstance(segmentation, dict) and isinstance(segmentation['counts'], bytes):
            segmentation = dict(segmentation, counts=segmentation['counts'].decode('ascii'))
    record = dict(id=number, image_id=image_id, category_id=category, bbox=[x, y, w, h],
                  area=area, iscrowd=int(found.crowd))
    return record if segmentation is None else dict(record, segmentation=segmentation)


def _write_references(dataset: LabeledDataset, folder: Path, root: Path) -> None:
    for image in dataset.images:
        for found in image.objects:
            found.label = found.label or _OBJECT
            if found.segmentation is None:
                # The REFER layout wants a mask for every object; REC trains on its box.
                x, y, w, h = found.box
                found.segmentation = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    classes = dataset.classes or [_OBJECT]
    content = _coco(dataset.images, classes, root)
    references: list[dict[str, Any]] = []
    objects = iter(content['annotations'])
    for image_id, image in enumerate(dataset.images, 1):
        for found in image.objects:
            ann_id = next(objects)['id']
            splits = ('train', 'val') if image.split == 'both' else (image.split, )
            if found.expressions:
                references += [_reference(found, ann_id, image_id, split)
                               for split in splits]
    _number(references)
    _dump(content, folder / 'instances.json')
    _dump(references, folder / 'refs.json')


def _reference(found: LabeledObject, ann_id: int, image_id: int, split: str) -> dict[str, Any]:
    return dict(ann_id=ann_id, image_id=image_id, split=split,
                sentences=[dict(sent=text) for text in found.expressions])


def _number(references: list[dict[str, Any]]) -> None:
    """Give references and sentences ids of their own."""
    sentence = 0
    for number, reference in enumerate(references, 1):
        reference['ref_id'] = number
        for record in reference['sentences']:
            sentence += 1
            record['sent_id'] = sentence


def _dump(content: Any, path: Path) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=None), encoding='utf-8')
