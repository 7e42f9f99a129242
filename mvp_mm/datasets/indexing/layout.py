# Copyright (c) mvp_mm authors. All rights reserved.
"""Which parts of a COCO-style file a reader needs, and what its records must hold."""
from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from mvp_mm.utils.faults import Faults
from mvp_mm.utils.records import (
    ANYTHING,
    AREA,
    BOX,
    CLASS_NAME,
    FILE_NAME,
    FLAG,
    ID,
    ID_OR_TEXT,
    SIDE,
    RecordFormat,
)

Record = dict[str, Any]


class Images(Protocol):
    """What a layout sees of the tables of a file; :class:`CocoIndex` is one."""

    categories: list[Record]

    def __len__(self) -> int:
        """Number of images."""

    def image(self, row: int) -> tuple[Record, np.ndarray]:
        """An image and the rows of its objects."""

    def image_record(self, row: int) -> Record:
        """The image's own record, as it stands in the file."""

    def records(self, objects: np.ndarray) -> list[Record]:
        """The full records of objects."""


class CocoLayout:
    """A file of boxes with classes; subclasses tell what is special about others.

    Args:
        with_areas: Whether the ``area`` of annotations is needed.

    Attributes:
        name: Tells indices of one file apart.
        version: To be raised when what the layout takes from a file changes.
        image: Format of images.
        annotation: Format of annotations.
        category: Format of categories.
        segment: Format of the members of ``segments_info``; None where an annotation is an object,
            else an annotation holds all objects of its image.
        object_records: Whether the full records of objects are needed again.
        image_records: The list, ``'images'`` or ``'annotations'``, whose records are needed again,
            one per image; ``''`` for none.
    """

    name = 'boxes'
    version = 1
    image = RecordFormat('image', id=ID, file_name=FILE_NAME, height=SIDE, width=SIDE)
    annotation = RecordFormat('annotation', id=ID_OR_TEXT.optional, image_id=ID,
                              category_id=ID_OR_TEXT, bbox=BOX, iscrowd=FLAG.optional)
    category = RecordFormat('category', id=ID_OR_TEXT, name=CLASS_NAME)
    segment: RecordFormat | None = None
    object_records = False
    image_records = ''

    def __init__(self, with_areas: bool = False) -> None:
        self.with_areas = with_areas
        if with_areas:
            self.name = f'{self.name}-areas'
            self.annotation = self.annotation.but(area=AREA.optional)

    @property
    def with_idents(self) -> bool:
        """Whether the tables hold the ids of objects."""
        return self.object_records or self.segment is not None

    @property
    def with_labels(self) -> bool:
        """Whether objects have a class of the file."""
        return self.segment is not None or 'category_id' in self.annotation

    @property
    def options(self) -> Record:
        """What the content of an index depends on besides the file."""
        return dict(version=self.version)

    def file_name(self, image: Record) -> str:
        """Name of an image's file."""
        return image['file_name']

    def summarize(self, index: Images, faults: Faults) -> Record:
        """Look at all images once, when the tables are made.

        Args:
            index: The tables.
            faults: Takes what is wrong.

        Returns:
            Facts that are kept with the tables, as JSON can hold them.
        """
        return {}


class MaskLayout(CocoLayout):
    """Boxes with ``segmentation``, which stays in the file, and ``area``."""

    name = 'records'
    annotation = CocoLayout.annotation.but(id=ID_OR_TEXT, segmentation=ANYTHING)
    object_records = True

    def __init__(self) -> None:
        super().__init__(with_areas=True)
