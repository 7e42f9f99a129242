# Copyright (c) mvp_mm authors. All rights reserved.
"""Category ids of saved predictions."""
from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class SavedVocabulary:
    """The classes of a data set and their ids in its annotation file.

    Args:
        names: Class names, in the order of the file's categories; may be empty.
        things: Whether each is a thing; all are where empty.
        ann_file: COCO-style JSON whose category ids to use; None, or a file without categories,
            numbers the classes from 0.

    Attributes:
        names: Class names.
        ids: Their category ids.
        place: Position of each name. Empty where the file's categories are not the classes, as
            in grounding data, whose phrases come from captions.

    Raises:
        FileNotFoundError: If there is no such file.
    """

    def __init__(self, names: Sequence[str] = (), things: Sequence[bool] = (),
                 ann_file: str | None = None) -> None:
        self.names = tuple(names)
        self.things = tuple(things) or (True,) * len(self.names)
        self.ids = list(range(len(self.names)))
        listed = _categories(ann_file) if ann_file and self.names else None
        if listed is not None:
            self.ids = [category['id'] for category in listed]
        matches = len(self.ids) == len(self.names)
        self.place = {name: k for k, name in enumerate(self.names)} if matches else {}
        self.place_of_id = {number: k for k, number in enumerate(self.ids)} if matches else {}

    def covers(self, phrases: Sequence[str]) -> bool:
        """Whether every phrase is a class."""
        return all(phrase in self.place for phrase in phrases)

    def categories(self) -> list[dict[str, Any]]:
        """COCO's records of the classes."""
        return [dict(id=self.ids[k], name=name, isthing=int(self.things[k]))
                for name, k in self.place.items()]


def _categories(path: str) -> list[dict[str, Any]] | None:
    content = json.loads(Path(path).read_bytes())
    return content.get('categories') if isinstance(content, dict) else None


def json_annotations(dataset: Mapping[str, Any]) -> str | None:
    """The path of a data set config's annotation file where that is JSON, else None."""
    name = str(dataset.get('ann_file') or '')
    if not name.endswith('.json'):
        return None
    return str(Path(dataset.get('data_root') or '') / name)
