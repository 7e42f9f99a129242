# Copyright (c) mvp_mm authors. All rights reserved.
"""LabelMe: one ``.json`` per image with ``shapes``."""
from __future__ import annotations

import base64
import io
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

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
from mvp_mm.utils.masks import encode_masks
from mvp_mm.utils.records import (
    CLASS_NAME,
    ID_OR_TEXT,
    POINT,
    Field,
    RecordFormat,
    is_file_name,
    list_of,
)
from mvp_mm.utils.texts import shown

NAME = 'LabelMe'
LOOKS_FOR = '.json files with "shapes" and "imagePath"'
_KEYS = {'shapes', 'imagePath'}
_CIRCLE_POINTS = 72
_LEAST_POINTS = dict(polygon=3, rectangle=2, circle=2, mask=1)
_SHAPE = RecordFormat(
    'shape', ident='', label=CLASS_NAME, points=list_of(POINT),
    group_id=Field(lambda value: value is None or ID_OR_TEXT.accepts(value),
                   f'{ID_OR_TEXT.expected} or null', required=False))
# What Base64 and Pillow raise for damaged pictures.
_PICTURE_ERRORS = (TypeError, ValueError, OSError, SyntaxError, EOFError,
                   Image.DecompressionBombError)


def _files(path: Path) -> list[Path]:
    return [path] if path.suffix.lower() == '.json' else sorted(path.rglob('*.json'))


def _load(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise LabelError(f'{file}: not valid JSON ({error})') from None
    return content if isinstance(content, dict) else {}


def matches(path: Path) -> bool:
    """Whether a path looks like this format."""
    for file in _files(path)[:20]:
        try:
            if _load(file).keys() >= _KEYS:
                return True
        except LabelError:
            continue
    return False


def read(path: Path, images: Path | None) -> LabeledDataset:
    """Read a dataset; see :func:`mvp_mm.own_data.formats.read_labels`."""
    problems, passed_over = Problems(path), Counter()
    found: list[LabeledImage] = []
    classes: dict[str, None] = {}
    for file in _files(path):
        try:
            content = _load(file)
            if not content.keys() >= _KEYS:
                passed_over['.json files without shapes and imagePath'] += 1
                continue
            found.append(_read_image(file, content, images, problems, passed_over))
        except LabelError as error:
            problems.add(file, str(error).removeprefix(f'{file}: '))
            continue
        classes.update(dict.fromkeys(o.label for o in found[-1].objects))
    problems.raise_if_any()
    return LabeledDataset(NAME, found, sorted(classes), passed_over)


def _read_image(file: Path, content: dict[str, Any], images: Path | None, problems: Problems,
                passed_over: Counter[str]) -> LabeledImage:
    if not is_file_name(content['imagePath']):
        raise LabelError(f'imagePath {shown(content["imagePath"])} is no name of a file')
    name = content['imagePath'].replace('\\', '/')
    image = images / Path(name).name if images else file.parent / name
    height, width = image_size(image)
    told = content.get('imageHeight'), content.get('imageWidth')
    if None not in told and told != (height, width):
        raise LabelError(f'says that {name} is {told[1]} × {told[0]} pixels, it is '
                         f'{width} × {height}')
    if not isinstance(content['shapes'], list):
        raise LabelError('shapes is no list')
    found = LabeledImage(image, height, width)
    groups: dict[tuple[str, Any], LabeledObject] = {}
    for number, shape in enumerate(content['shapes']):
        where = f'{file}, shape {number}'
        if not _SHAPE.accepts(shape, problems.faults_of(file), where=f'shape {number}'):
            continue
        try:
            read_shape = _read_shape(shape, height, width)
        except ValueError as error:
            problems.add(where, str(error))
            continue
        if read_shape is None:
            passed_over[f'shapes of type {shape.get("shape_type")}'] += 1
            continue
        key = (read_shape.label, shape.get('group_id'))
        if key[1] is not None and key in groups:
            _join(groups[key], read_shape, where, problems)
            continue
        groups[key] = read_shape
        found.objects.append(read_shape)
    return found


def _read_shape(shape: dict[str, Any], height: int, width: int) -> LabeledObject | None:
    """One shape; None for one that is no region, such as a point or a line."""
    label = shape['label'].strip()
    kind = shape.get('shape_type') or 'polygon'
    points = [(float(x), float(y)) for x, y in shape['points']]
    least = _LEAST_POINTS.get(kind, 0)
    if len(points) < least:
        raise ValueError(f'a {kind} needs at least {least} points, has {len(points)}')
    segmentation: list[list[float]] | dict[str, Any] | None = None
    if kind == 'rectangle':
        if len(points) == 2:
            (left, top), (right, bottom) = points
            points = [(left, top), (right, top), (right, bottom), (left, bottom)]
    elif kind == 'circle':
        points = _circle(points[0], points[1])
    elif kind == 'mask':
        segmentation = _mask(shape.get('mask'), points, height, width)
    elif kind != 'polygon':
        return None
    box = box_of_points(points)
    fault = box_fault(box, height, width)
    if fault:
        raise ValueError(fault)
    if segmentation is None and kind != 'rectangle':
        segmentation = [[value for point in points for value in point]]
    return LabeledObject(label, box, segmentation)


def _circle(centre: tuple[float, float], edge: tuple[float, float]) -> list[tuple[float, float]]:
    radius = math.dist(centre, edge)
    angles = (2 * math.pi * k / _CIRCLE_POINTS for k in range(_CIRCLE_POINTS))
    return [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles]


def _mask(text: Any, points: list[tuple[float, float]], height: int, width: int) -> dict[str, Any]:
    """The RLE of a picture of the region, which lies at the first of two points."""
    try:
        region = np.array(Image.open(io.BytesIO(base64.b64decode(text, validate=True)))) > 0
    except _PICTURE_ERRORS as error:
        raise ValueError(f'mask is no picture: {error}') from None
    left, top = (round(value) for value in points[0])
    whole = np.zeros((1, height, width), dtype=bool)
    if left < 0 or top < 0 or region.ndim != 2 or (
            whole[0, top:top + region.shape[0], left:left + region.shape[1]].shape != region.shape):
        raise ValueError(f'mask of shape {region.shape} at ({left}, {top}) does not fit the image')
    whole[0, top:top + region.shape[0], left:left + region.shape[1]] = region
    return encode_masks(whole)[0]


def _join(known: LabeledObject, more: LabeledObject, where: str, problems: Problems) -> None:
    """Add a further region of one object: shapes of one label and ``group_id``."""
    x, y, w, h = known.box
    a, b, c, d = more.box
    known.box = box_of_points([(x, y), (x + w, y + h), (a, b), (a + c, b + d)])
    if isinstance(known.segmentation, list) and isinstance(more.segmentation, list):
        known.segmentation += more.segmentation
    elif known.segmentation is not None or more.segmentation is not None:
        problems.add(where, 'only polygons can share a group_id')
