# Copyright (c) mvp_mm authors. All rights reserved.
"""What every label format is read into: images with objects, boxes, masks and expressions."""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mvp_mm.utils.faults import Faults
from mvp_mm.utils.images import read_size
from mvp_mm.utils.records import CLASS_NAME, MAX_COORDINATE
from mvp_mm.utils.texts import is_text, shown

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff')
_LISTED = 20


class LabelError(ValueError):
    """Labels that cannot be used; the text names every file and record at fault."""

    def __str__(self) -> str:
        # A lone surrogate of a file, in a name say, cannot be printed.
        return super().__str__().encode('utf-8', 'backslashreplace').decode()


@dataclass
class LabeledObject:
    """One object.

    Attributes:
        label: Name of its class; empty for an object that expressions alone mean.
        box: (x, y, w, h) in pixels of the image as a viewer shows it.
        segmentation: COCO polygons ``[[x, y, x, y, …], …]`` or RLE; None where only a box is known.
        crowd: Whether it stands for a group (COCO's ``iscrowd``).
        expressions: Sentences that mean this object.
    """

    label: str
    box: tuple[float, float, float, float]
    segmentation: list[list[float]] | dict[str, Any] | None = None
    crowd: bool = False
    expressions: list[str] = field(default_factory=list)


@dataclass
class LabeledImage:
    """An image file with its objects.

    Attributes:
        path: The image.
        height: In pixels, as a viewer shows it.
        width: Likewise.
        objects: Its objects; none for an image without any.
        split: ``'train'``, ``'val'`` or ``'both'`` where the labels say so, else empty.
    """

    path: Path
    height: int
    width: int
    objects: list[LabeledObject] = field(default_factory=list)
    split: str = ''


@dataclass
class LabeledDataset:
    """Everything that a file or folder of labels holds.

    Attributes:
        format: Name of the format, such as ``'YOLO'``.
        images: The images, in a stable order.
        classes: Class names in the order of the format.
        passed_over: What was not taken over, with counts: shapes that are no objects, say.
    """

    format: str
    images: list[LabeledImage]
    classes: list[str]
    passed_over: Counter[str] = field(default_factory=Counter)

    @property
    def has_masks(self) -> bool:
        """Whether every object has a mask."""
        objects = [o for image in self.images for o in image.objects]
        return bool(objects) and all(o.segmentation is not None for o in objects)

    @property
    def has_expressions(self) -> bool:
        """Whether objects are named by expressions."""
        return any(o.expressions for image in self.images for o in image.objects)


class Problems:
    """Collects what is wrong with labels, so that one run names all of it.

    Args:
        source: The file or folder, for the message.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self._found: list[str] = []

    def add(self, where: str | Path, message: str) -> None:
        """Note one fault of a file or record."""
        self._found.append(f'{where}: {message}')

    def faults_of(self, file: Path) -> Faults:
        """Return what notes the faults of a file's records, for their formats."""
        return _NotedFaults(file, self)

    def raise_if_any(self) -> None:
        """Raise all noted faults as one error.

        Raises:
            LabelError: Naming the first of them and their number.
        """
        if not self._found:
            return
        more = len(self._found) - _LISTED
        lines = self._found[:_LISTED] + ([f'… and {more} more'] if more > 0 else [])
        count = f'{len(self._found)} fault{"s" * (len(self._found) > 1)}'
        raise LabelError(f'{self.source}: {count}\n  ' + '\n  '.join(lines))


class _NotedFaults(Faults):
    """Notes faults of records, so that reading goes on."""

    collects = True

    def __init__(self, file: Path, problems: Problems) -> None:
        super().__init__(file)
        self.problems = problems

    def __call__(self, kind: str, where: str, message: str) -> None:
        """See :class:`Faults`."""
        self.problems.add(f'{self.path}, {where}', message)


def read_text(path: Path) -> str:
    """Read a text file, with or without a byte order mark.

    Raises:
        LabelError: If it is not UTF-8 or cannot be read.
    """
    try:
        return path.read_text(encoding='utf-8-sig')
    except (UnicodeDecodeError, OSError) as error:
        raise LabelError(f'{path}: not a text in UTF-8 ({error})') from None


def class_name(value: Any) -> str:
    """Return a class name of a record without outer spaces.

    Raises:
        ValueError: If it is no text that shows something.
    """
    if not is_text(value):
        raise ValueError(f'has the class name {shown(value)}, expected {CLASS_NAME.expected}')
    return value.strip()


def image_size(path: Path) -> tuple[int, int]:
    """Read the size of an image as a viewer shows it, without decoding its pixels.

    Returns:
        Height and width after EXIF's orientation.

    Raises:
        LabelError: If the file is missing or no image.
    """
    try:
        return read_size(path)
    except FileNotFoundError:
        raise LabelError(f'{path}: no such image') from None
    except (ValueError, OSError) as error:
        raise LabelError(f'{path}: cannot be read as an image ({error})') from None


def images_below(folder: Path) -> list[Path]:
    """List the images of a folder and its subfolders in a stable order, hidden files left out."""
    return sorted(path for path in folder.rglob('*')
                  if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith('.'))


def box_of_points(points: Iterable[Sequence[float]]) -> tuple[float, float, float, float]:
    """Return the smallest box (x, y, w, h) around points (x, y)."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def box_fault(box: Sequence[float], height: int, width: int) -> str:
    """Tell what is wrong with a box (x, y, w, h) on an image, or return ''."""
    if not all(math.isfinite(value) for value in box):
        return f'box {list(box)} is not finite'
    if max(map(abs, box)) > MAX_COORDINATE:
        return f'box {[round(value, 2) for value in box]} is beyond {MAX_COORDINATE} pixels'
    x, y, w, h = box
    if w <= 0 or h <= 0:
        return f'box {[round(value, 2) for value in box]} (x, y, w, h) has no area'
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        return (f'box {[round(value, 2) for value in box]} (x, y, w, h) lies outside the image '
                f'of {width} × {height} pixels')
    return ''
