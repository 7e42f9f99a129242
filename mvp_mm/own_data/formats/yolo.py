# Copyright (c) mvp_mm authors. All rights reserved.
"""YOLO: ``data.yaml`` with one ``.txt`` per image, boxes or polygons in shares of its sides."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mvp_mm.own_data.labels import (
    LabeledDataset,
    LabeledImage,
    LabeledObject,
    LabelError,
    Problems,
    box_fault,
    box_of_points,
    image_size,
    images_below,
    read_text,
)
from mvp_mm.utils.texts import is_text, shown

NAME = 'YOLO'
LOOKS_FOR = 'a .yaml file with "names", or a folder with one'
_MERGE = 'tag:yaml.org,2002:merge'
_NAMES = ('data', 'dataset')
_SPLITS = (('train', 'train'), ('val', 'val'), ('valid', 'val'))


def _yaml_of(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix.lower() in ('.yaml', '.yml') else None
    named = [file for name in _NAMES for file in path.glob(f'{name}.y*ml')]
    found = named or sorted([*path.glob('*.yaml'), *path.glob('*.yml')])
    return found[0] if found else None


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a mapping that names a key twice, of which YAML keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        pairs = list(node.value)
        mapping = super().construct_mapping(node, deep)
        keys = Counter(self.construct_object(key) for key, _ in pairs if key.tag != _MERGE)
        repeated = [key for key, number in keys.items() if number > 1]
        if repeated:
            raise yaml.constructor.ConstructorError(
                None, None, f'the key {shown(repeated[0])} is there twice', node.start_mark)
        return mapping


def _load(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(read_text(path), _UniqueKeys)
    except (yaml.YAMLError, RecursionError) as error:
        raise LabelError(f'{path}: not valid YAML: {" ".join(str(error).split())}') from None
    return content if isinstance(content, dict) else {}


def matches(path: Path) -> bool:
    """Whether a path looks like this format."""
    found = _yaml_of(path)
    if found is None:
        return False
    try:
        return 'names' in _load(found)
    except LabelError:
        # A broken file is named by reading it.
        return path.is_file() or found.stem in _NAMES


def read(path: Path, images: Path | None) -> LabeledDataset:
    """Read a dataset; see :func:`mvp_mm.own_data.formats.read_labels`."""
    source = _yaml_of(path)
    if source is None:
        raise LabelError(f'{path}: no .yaml file with the class names')
    content = _load(source)
    classes = _class_names(content.get('names'), source)
    problems, passed_over = Problems(path), Counter()
    found: dict[Path, LabeledImage] = {}
    if content.get('test') and images is None:
        passed_over['split named test, which is not read'] += 1
    for split, image in _images_by_split(content, source, images):
        known = found.get(image)
        if known is not None:
            # One folder for both is how a file says that there is nothing to validate on.
            known.split = known.split if known.split == split else 'both'
            continue
        labels = _label_file(image)
        if labels is None:
            passed_over['images without a label file, taken as images without objects'] += 1
        found[image] = _read_image(image, labels, split, classes, problems)
    problems.raise_if_any()
    return LabeledDataset(NAME, list(found.values()), classes, passed_over)


def _class_names(names: Any, source: Path) -> list[str]:
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            raise LabelError(f'{source}: names must be numbered from 0 without gaps')
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names or not all(map(is_text, names)):
        raise LabelError(f'{source}: names must list the class names as text')
    return names


def _images_by_split(content: dict[str, Any], source: Path,
                     images: Path | None) -> Iterator[tuple[str, Path]]:
    """Every image with its split, '' where the file names no splits."""
    if images is not None:
        yield from (('', image) for image in images_below(images))
        return
    entries = [(split, entry) for key, split in _SPLITS
               for entry in _as_list(content.get(key))]
    if not entries:
        yield from (('', image) for image in images_below(source.parent))
    for split, entry in entries:
        place = _resolve(str(entry), content, source)
        if place.is_dir():
            yield from ((split, image) for image in images_below(place))
        else:
            lines = read_text(place).splitlines()
            yield from ((split, place.parent / line) for line in lines if line.strip())


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []


def _resolve(entry: str, content: dict[str, Any], source: Path) -> Path:
    """Find a folder or list of images: below ``path``, or beside the file.

    Exports of annotation services write ``../train/images`` for a folder beside the file.
    """
    below = source.parent / str(content.get('path') or '')
    tried = [below / entry, source.parent / entry, source.parent / entry.removeprefix('../')]
    for candidate in tried:
        if candidate.exists():
            return candidate
    raise LabelError(f'{source}: {entry} is neither a folder nor a list of images; looked for '
                     f'{", ".join(map(str, dict.fromkeys(tried)))}')


def _label_file(image: Path) -> Path | None:
    """The label file: in ``labels`` instead of the last ``images``, or beside the image."""
    parts = list(image.parts)
    candidates = [image.with_suffix('.txt')]
    if 'images' in parts[:-1]:
        place = len(parts) - 2 - parts[:-1][::-1].index('images')
        candidates.insert(0, Path(*parts[:place], 'labels', *parts[place + 1:])
                          .with_suffix('.txt'))
    return next((file for file in candidates if file.is_file()), None)


def _read_image(image: Path, labels: Path | None, split: str, classes: list[str],
                problems: Problems) -> LabeledImage:
    try:
        height, width = image_size(image)
    except LabelError as error:
        problems.add(image, str(error).split(': ', 1)[1])
        return LabeledImage(image, 0, 0, [], split)
    found = LabeledImage(image, height, width, [], split)
    try:
        lines = read_text(labels).splitlines() if labels else []
    except LabelError as error:
        problems.add(str(labels), str(error).removeprefix(f'{labels}: '))
        lines = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.objects.append(_read_line(line, classes, height, width))
            except ValueError as error:
                problems.add(f'{labels}, line {number}', str(error))
    return found


def _read_line(line: str, classes: list[str], height: int, width: int) -> LabeledObject:
    try:
        number, *values = [float(word) for word in line.split()]
    except ValueError:
        raise ValueError(f'{line.strip()!r} is not a row of numbers') from None
    if not number.is_integer() or not 0 <= number < len(classes):
        raise ValueError(f'class {line.split()[0]} is none of the {len(classes)} names')
    label = classes[int(number)]
    polygon = None
    if len(values) == 4:
        x, y, w, h = (value * side for value, side in
                      zip(values, (width, height, width, height), strict=True))
        box = (x - w / 2, y - h / 2, w, h)
    elif len(values) >= 6 and len(values) % 2 == 0:
        points = [(x * width, y * height)
                  for x, y in zip(values[::2], values[1::2], strict=True)]
        box, polygon = box_of_points(points), [[float(v) for p in points for v in p]]
    else:
        raise ValueError(f'{len(values)} numbers after the class: a box has 4, a polygon an even '
                         'number from 6 on (key points are not read)')
    fault = box_fault(box, height, width)
    if fault:
        raise ValueError(fault)
    return LabeledObject(label, box, polygon)
