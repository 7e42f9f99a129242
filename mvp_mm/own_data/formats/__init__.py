# Copyright (c) mvp_mm authors. All rights reserved.
"""Readers of label formats, and the choice among them.

A reader is a module with ``NAME``, ``LOOKS_FOR``, ``matches(path)``, which is cheap, and
``read(path, images)``, which returns a :class:`LabeledDataset` or raises :class:`LabelError`.
"""
from __future__ import annotations

from pathlib import Path
from types import ModuleType

from mvp_mm.own_data.formats import coco, cvat, expressions_csv, labelme, voc, yolo
from mvp_mm.own_data.labels import LabeledDataset, LabelError
from mvp_mm.utils.faults import Faults
from mvp_mm.utils.files import load_json
from mvp_mm.utils.texts import clean

FORMATS: dict[str, ModuleType] = {
    'coco': coco, 'yolo': yolo, 'labelme': labelme, 'voc': voc, 'cvat': cvat,
    'csv': expressions_csv}


def recognise(path: Path) -> str:
    """Tell the format of a file or folder of labels.

    Returns:
        A key of ``FORMATS``.

    Raises:
        FileNotFoundError: If there is nothing at ``path``.
        LabelError: If no format or more than one fits.
    """
    if not path.exists():
        raise FileNotFoundError(f'{path}: no such file or folder')
    found = [name for name, reader in FORMATS.items() if reader.matches(path)]
    if len(found) == 1:
        return found[0]
    if found:
        raise LabelError(f'{path} could be {" or ".join(found)}: name the format')
    _refuse_broken(path)
    looked = '; '.join(f'{name}: {reader.LOOKS_FOR}' for name, reader in FORMATS.items())
    raise LabelError(f'{path}: no known label format. Looked for {looked}')


def _refuse_broken(path: Path) -> None:
    """Name the reason where a single file is of no format because it cannot be parsed."""
    try:
        if path.is_file() and path.suffix.lower() == '.json':
            load_json(path, object)
        elif path.is_file() and path.suffix.lower() == '.xml':
            voc.parse_xml(path)
    except LabelError:
        raise
    except ValueError as error:
        raise LabelError(str(error)) from None


def _check_whole(dataset: LabeledDataset, path: Path) -> None:
    """Check what no single record tells: names that look alike, images that come twice."""
    try:
        dataset.classes = Faults(path).classes(dataset.classes)
    except ValueError as error:
        raise LabelError(str(error)) from None
    seen: set[tuple[Path, str]] = set()
    for image in dataset.images:
        for found in image.objects:
            found.label = clean(found.label)
        key = image.path.resolve(), image.split
        if key in seen:
            raise LabelError(f'{path}: image {image.path} is labelled more than once')
        seen.add(key)


def read_labels(path: str | Path, images: str | Path | None = None,
                format: str | None = None) -> LabeledDataset:
    """Read labels of your own.

    Args:
        path: A file or folder of labels.
        images: Folder of the images, where the labels do not lie beside them.
        format: A key of ``FORMATS``; None to recognise it.

    Returns:
        Images with their objects, all checked.

    Raises:
        FileNotFoundError: If a path does not exist.
        LabelError: If the format is not recognised or labels are at fault, naming each.
    """
    path = Path(path)
    if images is not None and not Path(images).is_dir():
        raise FileNotFoundError(f'{images}: no such folder of images')
    if format is not None and format not in FORMATS:
        raise LabelError(f'unknown format {format!r}, choose from {", ".join(FORMATS)}')
    dataset = FORMATS[format or recognise(path)].read(path, Path(images) if images else None)
    if not dataset.images:
        raise LabelError(f'{path}: no image with or without labels was found')
    if not any(image.objects for image in dataset.images):
        raise LabelError(f'{path}: no object in {len(dataset.images)} images')
    _check_whole(dataset, path)
    return dataset
