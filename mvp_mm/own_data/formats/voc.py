# Copyright (c) mvp_mm authors. All rights reserved.
"""Pascal VOC: one ``.xml`` per image with ``object`` and ``bndbox``."""
from __future__ import annotations

from collections import Counter
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from mvp_mm.own_data.labels import (
    IMAGE_SUFFIXES,
    LabeledDataset,
    LabeledImage,
    LabeledObject,
    LabelError,
    Problems,
    box_fault,
    class_name,
    image_size,
)

NAME = 'Pascal VOC'
LOOKS_FOR = '.xml files with a root "annotation" that has a "filename"'


def parse_xml(file: Path) -> Element:
    """Parse an XML file without following anything that it names.

    Raises:
        LabelError: If it is not valid, or holds entities.
    """
    try:
        return parse(file).getroot()
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise LabelError(f'{file}: not valid XML ({error})') from None


def _files(path: Path) -> list[Path]:
    return [path] if path.suffix.lower() == '.xml' else sorted(path.rglob('*.xml'))


def matches(path: Path) -> bool:
    """Whether a path looks like this format."""
    for file in _files(path)[:20]:
        try:
            root = parse_xml(file)
        except LabelError:
            continue
        if root.tag == 'annotation' and root.find('filename') is not None:
            return True
    return False


def read(path: Path, images: Path | None) -> LabeledDataset:
    """Read a dataset; see :func:`mvp_mm.own_data.formats.read_labels`.

    The corners are pixels counted from 1 that the box includes, as VOC has them.
    """
    problems, passed_over = Problems(path), Counter()
    found: list[LabeledImage] = []
    classes: dict[str, None] = {}
    for file in _files(path):
        try:
            root = parse_xml(file)
            if root.tag != 'annotation':
                passed_over['.xml files that are no annotation'] += 1
                continue
            found.append(_read_image(file, root, images, problems))
        except LabelError as error:
            problems.add(file, str(error).removeprefix(f'{file}: '))
            continue
        classes.update(dict.fromkeys(o.label for o in found[-1].objects))
    problems.raise_if_any()
    return LabeledDataset(NAME, found, sorted(classes), passed_over)


def _read_image(file: Path, root: Element, images: Path | None,
                problems: Problems) -> LabeledImage:
    name = (root.findtext('filename') or '').strip()
    if not name:
        raise LabelError('has no filename')
    image = _find_image(file, name, images)
    height, width = image_size(image)
    size = root.find('size')
    if size is not None:
        try:
            told = tuple(int(float(size.findtext(key) or 0)) for key in ('height', 'width'))
        except (ValueError, OverflowError):
            raise LabelError('its size lacks a number') from None
        if told not in ((0, 0), (height, width)):
            raise LabelError(f'says that {name} is {told[1]} × {told[0]} pixels, it is '
                             f'{width} × {height}')
    found = LabeledImage(image, height, width)
    for number, node in enumerate(root.iter('object')):
        try:
            found.objects.append(_read_object(node, height, width))
        except ValueError as error:
            problems.add(f'{file}, object {number}', str(error))
    return found


def _find_image(file: Path, name: str, images: Path | None) -> Path:
    """Look in the given folder, beside the file, and in VOC's ``JPEGImages``."""
    folders = [images] if images else [file.parent, file.parent.parent / 'JPEGImages',
                                       file.parent.parent / 'images']
    plain = Path(name).name
    names = [plain] if Path(plain).suffix.lower() in IMAGE_SUFFIXES else [
        plain + suffix for suffix in IMAGE_SUFFIXES]
    for folder in folders:
        for candidate in names:
            if (folder / candidate).is_file():
                return folder / candidate
    raise LabelError(f'no image {name} in {", ".join(map(str, folders))}')


def _read_object(node: Element, height: int, width: int) -> LabeledObject:
    label = class_name(node.findtext('name'))
    corners = node.find('bndbox')
    if corners is None:
        raise ValueError('has no bndbox')
    try:
        left, top, right, bottom = (float(corners.findtext(key) or 'nothing')
                                    for key in ('xmin', 'ymin', 'xmax', 'ymax'))
    except ValueError:
        raise ValueError('its bndbox lacks a number') from None
    box = (left - 1, top - 1, right - left + 1, bottom - top + 1)
    if right < left or bottom < top:
        raise ValueError(f'bndbox {[left, top, right, bottom]} is reversed')
    fault = box_fault(box, height, width)
    if fault:
        raise ValueError(fault)
    return LabeledObject(label, box)
