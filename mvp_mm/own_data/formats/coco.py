# Copyright (c) mvp_mm authors. All rights reserved.
"""COCO JSON of boxes and masks: ``images``, ``annotations`` and ``categories``."""
from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from mvp_mm.own_data.labels import (
    LabeledDataset,
    LabeledImage,
    LabeledObject,
    LabelError,
    Problems,
    box_fault,
    box_of_points,
    image_size,
)
from mvp_mm.utils.files import load_json
from mvp_mm.utils.masks import to_rle
from mvp_mm.utils.records import (
    BOX,
    CLASS_NAME,
    FILE_NAME,
    FLAG,
    ID_OR_TEXT,
    Field,
    RecordFormat,
)

NAME = 'COCO'
LOOKS_FOR = 'a .json file with "images", "annotations" and "categories", or a folder with such'
_KEYS = {'images', 'annotations', 'categories'}
_CATEGORY = RecordFormat('category', id=ID_OR_TEXT, name=CLASS_NAME)
_IMAGE = RecordFormat('image', id=ID_OR_TEXT, file_name=FILE_NAME)
_ANNOTATION = RecordFormat(
    'annotation', image_id=ID_OR_TEXT, category_id=ID_OR_TEXT, iscrowd=FLAG.optional,
    bbox=Field(lambda box: box is None or BOX.accepts(box), BOX.expected, required=False))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == '.json' else []
    return sorted([*path.glob('*.json'), *path.glob('annotations/*.json'),
                   *path.glob('*/_annotations.coco.json')])


def _is_coco(file: Path) -> bool:
    try:
        return load_json(file).keys() >= _KEYS
    except ValueError:
        return False


def matches(path: Path) -> bool:
    """Whether a path looks like this format."""
    return any(_is_coco(file) for file in _files(path))


def read(path: Path, images: Path | None) -> LabeledDataset:
    """Read a dataset; see :func:`mvp_mm.own_data.formats.read_labels`.

    Of several files in a folder, those whose names say ``train`` and ``val`` are its splits.
    """
    files = [file for file in _files(path) if _is_coco(file)]
    if not files:
        raise LabelError(f'{path}: no COCO JSON with {", ".join(sorted(_KEYS))}')
    problems, passed_over = Problems(path), Counter()
    found: list[LabeledImage] = []
    classes: dict[str, None] = {}
    for file in files:
        split = _split_of(file) if len(files) > 1 else ''
        if len(files) > 1 and not split:
            raise LabelError(f'{path}: several COCO files, and {file.name} says neither train nor '
                             'val; name one file')
        read_images, names = _read_file(file, split, images, problems, passed_over)
        found += read_images
        classes.update(dict.fromkeys(names))
    problems.raise_if_any()
    return LabeledDataset(NAME, found, list(classes), passed_over)


def _split_of(file: Path) -> str:
    name = f'{file.parent.name}/{file.name}'.lower()
    return 'train' if 'train' in name else 'val' if 'val' in name else ''


def _read_file(file: Path, split: str, images: Path | None, problems: Problems,
               passed_over: Counter[str]) -> tuple[list[LabeledImage], list[str]]:
    content = load_json(file)
    for key in _KEYS:
        if not isinstance(content[key], list):
            raise LabelError(f'{file}: {key} must be a list of records')
    faults = problems.faults_of(file)
    names: dict[Any, str] = {}
    for place, record in enumerate(content['categories']):
        if _CATEGORY.accepts(record, faults, place):
            if record['id'] in names:
                faults('duplicate id', _CATEGORY.where(record), 'is there more than once')
            names[record['id']] = record['name']
    faults.classes(list(names.values()))
    by_id: dict[Any, LabeledImage] = {}
    for place, record in enumerate(content['images']):
        if not _IMAGE.accepts(record, faults, place):
            continue
        where = _IMAGE.where(record)
        if record['id'] in by_id:
            faults('duplicate id', where, 'is there more than once')
        try:
            by_id[record['id']] = _read_image(record, file, split, images)
        except LabelError as error:
            faults('broken image', where, str(error))
    for place, record in enumerate(content['annotations']):
        if not _ANNOTATION.accepts(record, faults, place):
            continue
        where = f'{file}, {_ANNOTATION.where(record, place)}'
        try:
            image, label = by_id.get(record['image_id']), names.get(record['category_id'])
            if image is None:
                raise LabelError(f'names image {record["image_id"]}, which is not usable or not '
                                 'in the file')
            if label is None:
                raise LabelError(f'names category {record["category_id"]}, which is not listed')
            image.objects.append(_read_object(record, label, image, where))
        except ValueError as error:
            problems.add(where, str(error).removeprefix(f'{where}: '))
    if not content['annotations']:
        passed_over[f'annotations in {file.name}: it has none'] += 0
    return list(by_id.values()), list(names.values())


def _read_image(record: dict[str, Any], file: Path, split: str,
                images: Path | None) -> LabeledImage:
    name = record['file_name']
    stem = file.stem.replace('instances_', '')
    places = [images] if images else [file.parent, file.parent / 'images', file.parent.parent,
                                      file.parent.parent / 'images', file.parent.parent / stem]
    path = next((place / name for place in places if (place / name).is_file()), None)
    if path is None:
        raise LabelError(f'no image {name} in {", ".join(map(str, places))}; give --images')
    height, width = image_size(path)
    told = record.get('height', height), record.get('width', width)
    if told != (height, width):
        raise LabelError(f'says that {name} is {told[1]} × {told[0]} pixels, it is '
                         f'{width} × {height}')
    return LabeledImage(path, height, width, [], split)


def _read_object(record: dict[str, Any], label: str, image: LabeledImage,
                 where: str) -> LabeledObject:
    segmentation = record.get('segmentation') or None
    if segmentation is not None:
        to_rle(segmentation, image.height, image.width, where)
    box = record.get('bbox')
    if box is None and isinstance(segmentation, list):
        points = [point for polygon in segmentation
                  for point in zip(polygon[::2], polygon[1::2], strict=True)]
        box = box_of_points(points)
    if box is None:
        raise LabelError('has neither bbox nor polygons')
    fault = box_fault(box, image.height, image.width)
    if fault:
        raise LabelError(fault)
    x, y, w, h = (float(value) for value in box)
    return LabeledObject(label, (x, y, w, h), segmentation, bool(record.get('iscrowd', 0)))
