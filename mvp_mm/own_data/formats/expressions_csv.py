# Copyright (c) mvp_mm authors. All rights reserved.
"""A CSV of expressions: one row per expression with the box that it means."""
from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from mvp_mm.own_data.labels import (
    LabeledDataset,
    LabeledImage,
    LabeledObject,
    LabelError,
    Problems,
    box_fault,
    image_size,
)
from mvp_mm.utils.records import is_file_name
from mvp_mm.utils.texts import is_text, shown

NAME = 'CSV of expressions'
LOOKS_FOR = ('a .csv file with columns image, expression and x, y, w, h (or x1, y1, x2, y2), and '
             'split where wanted')
_SIZES, _CORNERS = ('x', 'y', 'w', 'h'), ('x1', 'y1', 'x2', 'y2')


def _columns(path: Path) -> list[str]:
    with open(path, newline='', encoding='utf-8-sig') as file:
        try:
            return [name.strip().lower() for name in next(csv.reader(file), [])]
        except (csv.Error, UnicodeDecodeError) as error:
            raise LabelError(f'{path}, line 1: {error}') from None


def _fit(columns: list[str]) -> bool:
    return {'image', 'expression'} <= set(columns) and (
        set(_SIZES) <= set(columns) or set(_CORNERS) <= set(columns))


def matches(path: Path) -> bool:
    """Whether a path looks like this format."""
    return path.suffix.lower() == '.csv' and path.is_file()


def read(path: Path, images: Path | None) -> LabeledDataset:
    """Read a dataset; see :func:`mvp_mm.own_data.formats.read_labels`.

    Rows of one image with one box mean one object with several expressions.
    """
    columns = _columns(path)
    if not _fit(columns):
        raise LabelError(f'{path}: the first line must name the columns image, expression and x, '
                         f'y, w, h (or x1, y1, x2, y2), it has {columns}')
    repeated = {name for name in columns if name and columns.count(name) > 1}
    if repeated:
        raise LabelError(f'{path}, line 1: columns {sorted(repeated)} are there more than once')
    folder = images or path.parent
    problems = Problems(path)
    found: dict[str, LabeledImage] = {}
    with open(path, newline='', encoding='utf-8-sig') as file:
        rows = csv.reader(file, strict=True)
        next(rows)
        for number, values in enumerate(_safe(rows, path), 2):
            if not any(value.strip() for value in values):
                continue
            try:
                if len(values) != len(columns):
                    raise LabelError(f'has {len(values)} values for {len(columns)} columns')
                _add_row(dict(zip(columns, values, strict=True)), folder, found)
            except ValueError as error:
                problems.add(f'{path}, line {number}', str(error))
    problems.raise_if_any()
    return LabeledDataset(NAME, list(found.values()), [], Counter())


def _safe(rows, path: Path):
    """The rows, with broken quoting named by its line."""
    while True:
        try:
            yield next(rows)
        except StopIteration:
            return
        except (csv.Error, UnicodeDecodeError) as error:
            raise LabelError(f'{path}, line {rows.line_num}: {error}') from None


def _add_row(row: dict[str, str], folder: Path, found: dict[str, LabeledImage]) -> None:
    name, text = row['image'].strip(), row['expression'].strip()
    if not is_file_name(name) or not is_text(text):
        raise LabelError(f'needs an image and an expression, has {shown(name)} and {shown(text)}')
    split = row.get('split', '').strip()
    if split not in ('', 'train', 'val'):
        raise LabelError(f'split is {split!r}, must be train or val')
    image = found.get(name)
    if image is None:
        image = LabeledImage(folder / name, *image_size(folder / name), split=split)
        found[name] = image
    if image.split != split:
        raise LabelError(f'{name} is in split {image.split!r} above and in {split!r} here')
    box = _box(row)
    fault = box_fault(box, image.height, image.width)
    if fault:
        raise LabelError(fault)
    for known in image.objects:
        if known.box == box:
            known.expressions.append(text)
            return
    image.objects.append(LabeledObject('', box, expressions=[text]))


def _box(row: dict[str, str]) -> tuple[float, float, float, float]:
    keys = _SIZES if row.keys() >= set(_SIZES) else _CORNERS
    try:
        a, b, c, d = (float(row[key]) for key in keys)
    except ValueError:
        raise LabelError(f'{", ".join(keys)} must be numbers, got '
                         f'{[row[key] for key in keys]}') from None
    return (a, b, c, d) if keys == _SIZES else (a, b, c - a, d - b)
