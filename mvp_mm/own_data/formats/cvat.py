# Copyright (c) mvp_mm authors. All rights reserved.
"""CVAT for images 1.1: one ``annotations.xml`` with ``image`` elements."""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from mvp_mm.own_data.formats.voc import parse_xml
from mvp_mm.own_data.labels import (
    LabeledDataset,
    LabeledImage,
    LabeledObject,
    LabelError,
    Problems,
    box_fault,
    box_of_points,
    class_name,
    image_size,
)
from mvp_mm.utils.masks import encode_masks

NAME = 'CVAT'
LOOKS_FOR = 'an .xml file with a root "annotations" that has "image" elements'


def _file(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix.lower() == '.xml' else None
    found = path / 'annotations.xml'
    return found if found.is_file() else None


def matches(path: Path) -> bool:
    """Whether a path looks like this format."""
    file = _file(path)
    try:
        return file is not None and parse_xml(file).tag == 'annotations'
    except LabelError:
        return False


def read(path: Path, images: Path | None) -> LabeledDataset:
    """Read a dataset; see :func:`mvp_mm.own_data.formats.read_labels`."""
    file = _file(path)
    if file is None:
        raise LabelError(f'{path}: no annotations.xml')
    root = parse_xml(file)
    if root.find('track') is not None:
        raise LabelError(f'{file}: tracks of a video; export it as "CVAT for images"')
    problems, passed_over = Problems(file), Counter()
    found: list[LabeledImage] = []
    classes = [name.text or '' for name in root.iterfind('meta//label/name')]
    for node in root.iterfind('image'):
        try:
            image = _read_image(file, node, images, problems, passed_over)
        except LabelError as error:
            problems.add(f'{file}, image {node.get("id")}', str(error))
            continue
        found.append(image)
        classes += [o.label for o in image.objects]
    problems.raise_if_any()
    return LabeledDataset(NAME, found, list(dict.fromkeys(classes)), passed_over)


def _read_image(file: Path, node: Element, images: Path | None, problems: Problems,
                passed_over: Counter[str]) -> LabeledImage:
    name = node.get('name') or ''
    places = [images] if images else [file.parent, file.parent / 'images']
    image = next((place / name for place in places if name and (place / name).is_file()), None)
    if image is None:
        raise LabelError(f'no image {name!r} in {", ".join(map(str, places))}')
    height, width = image_size(image)
    try:
        told = int(node.get('height') or 0), int(node.get('width') or 0)
    except ValueError:
        raise LabelError('its height and width must be whole numbers') from None
    if told not in ((0, 0), (height, width)):
        raise LabelError(f'says that {name} is {told[1]} × {told[0]} pixels, it is '
                         f'{width} × {height}')
    found = LabeledImage(image, height, width)
    for number, shape in enumerate(node):
        try:
            read_shape = _read_shape(shape, height, width)
        except ValueError as error:
            problems.add(f'{file}, image {node.get("id")} ({name}), shape {number}', str(error))
            continue
        if read_shape is None:
            passed_over[f'{shape.tag} elements'] += 1
        else:
            found.objects.append(read_shape)
    return found


def _read_shape(shape: Element, height: int, width: int) -> LabeledObject | None:
    if shape.tag not in ('box', 'polygon', 'mask'):
        return None
    label = class_name(shape.get('label'))
    segmentation: list[list[float]] | dict[str, Any] | None = None
    if shape.tag == 'box':
        left, top, right, bottom = _numbers(shape, 'xtl', 'ytl', 'xbr', 'ybr')
        angle = float(shape.get('rotation') or 0)
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        if angle:
            corners = list(_rotated(corners, math.radians(angle)))
            segmentation = [[value for point in corners for value in point]]
        box = box_of_points(corners)
    elif shape.tag == 'polygon':
        points = _points(shape.get('points') or '')
        box = box_of_points(points)
        segmentation = [[value for point in points for value in point]]
    else:
        left, top, w, h = _numbers(shape, 'left', 'top', 'width', 'height')
        box = (left, top, w, h)
        if not all(value.is_integer() for value in box):
            raise ValueError(f'the window {list(box)} of a mask is not of whole pixels')
        segmentation = _mask(shape.get('rle') or '', int(left), int(top), int(w), int(h),
                             height, width)
    fault = box_fault(box, height, width)
    if fault:
        raise ValueError(fault)
    return LabeledObject(label, box, segmentation)


def _numbers(shape: Element, *keys: str) -> list[float]:
    try:
        numbers = [float(shape.attrib[key]) for key in keys]
    except (KeyError, ValueError):
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f'{shape.tag} needs finite numbers {", ".join(keys)}')
    return numbers


def _points(text: str) -> list[tuple[float, float]]:
    try:
        points = [(float(x), float(y)) for x, y in (pair.split(',') for pair in text.split(';'))]
    except ValueError:
        raise ValueError(f'points {text[:40]!r} are not x,y;x,y;…') from None
    if len(points) < 3 or not all(math.isfinite(value) for point in points for value in point):
        raise ValueError('a polygon needs at least three finite points')
    return points


def _rotated(corners: list[tuple[float, float]],
             angle: float) -> Iterator[tuple[float, float]]:
    """Corners turned clockwise about their centre, in radians."""
    cx, cy = (sum(values) / len(corners) for values in zip(*corners, strict=True))
    for x, y in corners:
        yield (cx + (x - cx) * math.cos(angle) - (y - cy) * math.sin(angle),
               cy + (x - cx) * math.sin(angle) + (y - cy) * math.cos(angle))


def _mask(text: str, left: int, top: int, w: int, h: int, height: int,
          width: int) -> dict[str, Any]:
    """The COCO RLE of runs over the rows of a window, the first of them background."""
    try:
        runs = [int(run) for run in text.split(',')]
    except ValueError:
        raise ValueError('rle is not a list of whole numbers') from None
    if min(runs) < 0 or sum(runs) != w * h:
        raise ValueError(f'runs of rle sum to {sum(runs)}, its window has {w * h} pixels')
    if left < 0 or top < 0 or left + w > width or top + h > height:
        raise ValueError('the window of the mask sticks out of the image')
    values = np.arange(len(runs)) % 2 == 1
    whole = np.zeros((1, height, width), dtype=bool)
    whole[0, top:top + h, left:left + w] = np.repeat(values, runs).reshape(h, w)
    return encode_masks(whole)[0]
