# Copyright (c) mvp_mm authors. All rights reserved.
"""Which parts of a COCO-style file a reader needs."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mvp_mm.utils.faults import Faults

if TYPE_CHECKING:
    from mvp_mm.datasets.indexing.coco import CocoIndex

Record = dict[str, Any]


class CocoLayout:
    """A file of boxes with classes; subclasses tell what is special about others.

    Attributes:
        name: Tells indices of one file apart.
        version: To be raised when what the layout takes from a file changes.
        image_keys: Keys that every image must have.
        annotation_keys: Keys that every annotation must have.
        category_keys: Keys that every category must have.
        segmented: Whether an annotation holds all objects of its image, in ``segments_info``.
        object_records: Whether the full records of objects are needed again.
        image_records: The list, ``'images'`` or ``'annotations'``, whose records are needed again,
            one an image; ``''`` for none.
    """

    name = 'boxes'
    version = 1
    image_keys: tuple[str, ...] = ('id', 'file_name', 'height', 'width')
    annotation_keys: tuple[str, ...] = ('image_id', 'category_id', 'bbox')
    category_keys: tuple[str, ...] = ('id', 'name')
    segmented = False
    object_records = False
    image_records = ''

    @property
    def with_idents(self) -> bool:
        """Whether the tables hold the ids of objects."""
        return self.object_records or self.segmented

    @property
    def with_labels(self) -> bool:
        """Whether objects have a class of the file."""
        return self.segmented or 'category_id' in self.annotation_keys

    @property
    def options(self) -> Record:
        """What the content of an index depends on besides the file."""
        return dict(version=self.version)

    def file_name(self, image: Record) -> str:
        """Name of an image's file."""
        return image['file_name']

    def summarize(self, index: CocoIndex, faults: Faults) -> Record:
        """Look at all images once, when the tables are made.

        Args:
            index: The tables.
            faults: Takes what is wrong.

        Returns:
            Facts that are kept with the tables, as JSON can hold them.
        """
        return {}


class MaskLayout(CocoLayout):
    """Boxes with ``segmentation``, which stays in the file."""

    name = 'records'
    annotation_keys = ('id', 'image_id', 'category_id', 'bbox', 'segmentation')
    object_records = True
